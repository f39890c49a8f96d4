import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Candidate, Site } from './candidate.ts';
import { plainSource } from './request-source.ts';
import { startCandidate } from './start.ts';

/** nginx as a plain reverse proxy: about the least that a hop can cost. */
export const NGINX: Candidate = {
  name: 'nginx',
  title: 'nginx proxy_pass, keep-alive',
  missing: ({ nginx }) => (nginx === undefined ? 'there is no nginx here: apt-get install nginx-light' : undefined),
  start: async (site) => {
    const file = path.join(site.folder, 'nginx.conf');
    writeFileSync(file, configuration(site));
    const errors = path.join(site.folder, 'error.log');
    const command = [site.machine.nginx ?? 'nginx', '-p', site.folder, '-e', errors, '-c', file];
    return {
      name: 'nginx',
      port: site.port,
      process: await startCandidate(command, site, '/'),
      source: (ask) => plainSource(ask, site.port, { authorization: 'Bearer x' }),
    };
  },
};

// Buffering is off because a stream behind nginx needs it so; the limits of requests per connection are lifted because
// a reconnect is not what is measured. A body of 1 MB is let in and held in memory: by default it is refused, and above
// the buffer it would go through a file. 500 streams take two connections each.
function configuration({ port, mockPort, folder }: Site): string {
  return `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log warn;
events { worker_connections 2048; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  keepalive_requests 100000000;
  client_max_body_size 32m;
  client_body_buffer_size 2m;
  upstream mock {
    server 127.0.0.1:${mockPort};
    keepalive 64;
    keepalive_requests 100000000;
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }
  }
}
`;
}
