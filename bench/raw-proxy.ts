import { Agent, createServer, request as httpRequest } from 'node:http';

// The least a Node proxy can be: it passes headers and bodies on as they come and looks at nothing. The broker is
// measured against it, so nothing may be added here, and nothing tuned that Node does not do by itself.

const [port, upstreamPort] = process.argv.slice(2).map(Number);
const agent = new Agent({ keepAlive: true });

createServer((request, response) => {
  const { method, url: path, headers } = request;
  const onward = httpRequest({ host: '127.0.0.1', port: upstreamPort, agent, method, path, headers }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', () => response.destroy());
  response.on('close', () => {
    if (!response.writableFinished) onward.destroy();
  });
  request.pipe(onward);
}).listen(port, '127.0.0.1');
