import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { openFaultProxy, type Fault, type FaultProxy } from './fault-proxy.ts';

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n';

describe('the fault proxy', () => {
  let target: Server;
  let proxy: FaultProxy;
  // The target's end of the newest connection, and what it does with it.
  let served: Peer;
  let serve: (peer: Peer) => void;

  before(async () => {
    target = createServer({ allowHalfOpen: true }, (socket) => {
      served = watch(socket);
      serve(served);
    });
    target.listen(0, '127.0.0.1');
    await once(target, 'listening');
  });
  after(() => void target.close());
  beforeEach(async () => {
    serve = () => {};
    proxy = await openFaultProxy((target.address() as AddressInfo).port);
  });
  afterEach(() => proxy.close());

  type Peer = ReturnType<typeof watch>;

  function watch(socket: Socket) {
    const peer = { socket, text: '', arrivedMs: [] as number[], end: 'open' as 'open' | 'ended' | 'reset' };
    socket.on('data', (bytes) => {
      peer.text += bytes.toString('latin1');
      peer.arrivedMs.push(performance.now());
    });
    socket.on('end', () => void (peer.end = 'ended'));
    socket.on('error', () => void (peer.end = 'reset'));
    return peer;
  }

  const dial = () => watch(connect({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true }));

  async function call(): Promise<Peer> {
    const client = dial();
    await once(target, 'connection');
    return client;
  }

  async function until(isSo: () => boolean): Promise<void> {
    for (let waitedMs = 0; !isSo(); waitedMs += 5) {
      assert.ok(waitedMs < 3000, `waited in vain: ${isSo}`);
      await setTimeout(5);
    }
  }

  // Long enough for what must not happen to have happened.
  const aWhile = () => setTimeout(60);

  it('carries both ways, byte for byte, and passes each end on by itself', async () => {
    serve = ({ socket }) => void socket.on('end', () => socket.end('answer'));
    const client = await call();
    const question = Buffer.alloc(5_000_000, 'question').toString();
    client.socket.end(question);
    await until(() => client.end === 'ended');
    assert.equal(served.text, question);
    assert.equal(client.text, 'answer');
    await until(() => proxy.connections === 0);
  });

  it('passes a reset on, whoever began it', async () => {
    const first = await call();
    first.socket.write('hello');
    await until(() => served.text === 'hello');
    first.socket.resetAndDestroy();
    await until(() => served.end === 'reset');
    serve = ({ socket }) => void socket.resetAndDestroy();
    const second = await call();
    await until(() => second.end === 'reset');
    await until(() => proxy.connections === 0);
  });

  it('resets a client whose target cannot be reached', async () => {
    const { port } = proxy;
    await proxy.close();
    proxy = await openFaultProxy(port);
    const client = dial();
    await until(() => client.end === 'reset');
  });

  it('reads no more than it can pass on', async () => {
    serve = ({ socket }) => void socket.pause();
    const client = await call();
    client.socket.write(Buffer.alloc(64 * 1024 * 1024));
    await setTimeout(300);
    const { bytesWritten, writableLength } = client.socket;
    assert.ok(writableLength > 0 && bytesWritten > 0, `${writableLength} of ${bytesWritten} are still to be sent`);
    served.socket.resume();
    await until(() => client.socket.writableLength === 0);
  });

  it('tells when each side was gone', async () => {
    serve = ({ socket }) => void socket.on('end', () => globalThis.setTimeout(() => socket.end(), 100));
    const client = await call();
    client.socket.end();
    await until(() => proxy.connections === 0);
    const { closedClientMs = NaN, closedTargetMs = NaN } = proxy.carried[0]!;
    assert.ok(closedTargetMs - closedClientMs > 80 && closedTargetMs - closedClientMs < 1000);
  });

  it('delays every byte by the latency, and not one behind the other', async () => {
    proxy.plan({ latencyMs: 150 });
    const client = await call();
    const sentMs = performance.now();
    for (const text of ['a', 'b', 'c', 'd', 'e']) {
      served.socket.write(text);
      await setTimeout(10);
    }
    served.socket.end();
    await until(() => client.end === 'ended');
    assert.equal(client.text, 'abcde');
    assert.ok(client.arrivedMs[0]! - sentMs >= 148, 'the first was late');
    assert.ok(client.arrivedMs.at(-1)! - sentMs < 700, 'the last was not five times as late');
  });

  it('delays the other direction where that is asked for', async () => {
    proxy.plan({ way: 'up', latencyMs: 200 });
    serve = ({ socket }) => void socket.write('at once');
    const client = await call();
    const sentMs = performance.now();
    client.socket.write('late');
    await until(() => served.text === 'late');
    assert.ok(served.arrivedMs[0]! - sentMs >= 198);
    assert.ok(client.arrivedMs[0]! < served.arrivedMs[0]! - 100);
  });

  it('writes in slices', async () => {
    proxy.plan({ slice: 3, pauseMs: 40 });
    serve = ({ socket }) => void socket.end('0123456789');
    const client = await call();
    await until(() => client.end === 'ended');
    assert.equal(client.text, '0123456789');
    assert.equal(client.arrivedMs.length, 4);
    assert.ok(client.arrivedMs[3]! - client.arrivedMs[0]! >= 110);
  });

  it('holds a rate', async () => {
    proxy.plan({ rate: 100_000 });
    const begunMs = performance.now();
    serve = ({ socket }) => void socket.end(Buffer.alloc(30_000));
    const client = await call();
    await until(() => client.end === 'ended');
    const tookMs = performance.now() - begunMs;
    assert.equal(client.text.length, 30_000);
    assert.ok(tookMs > 250 && tookMs < 2000, `${tookMs} ms`);
  });

  type Row = [fault: Fault, client: [text: string, end: Peer['end']], target: Peer['end']];
  // The target writes a head and ten digits and stays; what each side then has.
  const rows: Row[] = [
    [{ at: 0, do: 'cut' }, ['', 'ended'], 'ended'],
    [{ at: 20, do: 'cut' }, [HEAD.slice(0, 20), 'ended'], 'ended'],
    [{ at: 0, from: 'body', do: 'cut' }, [HEAD, 'ended'], 'ended'],
    [{ at: 4, from: 'body', do: 'cut' }, [`${HEAD}0123`, 'ended'], 'ended'],
    [{ at: 10, from: 'body', do: 'cut' }, [`${HEAD}0123456789`, 'ended'], 'ended'],
    [{ at: 11, from: 'body', do: 'cut' }, [`${HEAD}0123456789`, 'open'], 'open'],
    [{ at: 0, do: 'reset' }, ['', 'reset'], 'reset'],
    [{ at: 4, from: 'body', do: 'reset' }, [`${HEAD}0123`, 'reset'], 'reset'],
    [{ at: 4, from: 'body', do: 'stall' }, [`${HEAD}0123`, 'open'], 'open'],
    [{ at: 4, from: 'body', do: 'blackhole' }, [`${HEAD}0123`, 'open'], 'open'],
    [{ at: 4, from: 'body', do: 'half-close' }, [`${HEAD}0123`, 'ended'], 'open'],
    [{ at: 4, from: 'body', do: 'garble', byte: 65 }, [`${HEAD}0123A56789`, 'open'], 'open'],
    [{ at: 4, from: 'body', do: 'garble' }, [`${HEAD}0123\xcb56789`, 'open'], 'open'],
    [{ at: 0, do: 'garble', byte: 65 }, [`A${HEAD.slice(1)}0123456789`, 'open'], 'open'],
  ];
  for (const [fault, [text, end], targetEnd] of rows) {
    // In pieces as well: an offset is counted across them, and an empty line is found that is torn apart.
    for (const length of [100, 7, HEAD.length - 2]) {
      it(`can ${JSON.stringify(fault)}, of an answer in pieces of ${length}`, async () => {
        proxy.plan(fault);
        const client = await call();
        const answer = `${HEAD}0123456789`;
        for (let sent = 0; sent < answer.length; sent += length) {
          served.socket.write(answer.slice(sent, sent + length));
          await setTimeout(2);
        }
        await until(() => client.text === text && client.end === end && served.end === targetEnd);
        await aWhile();
        assert.deepEqual([client.text, client.end, served.end], [text, end, targetEnd]);
      });
    }
  }

  it('stalls one direction and leaves the other open, a hang-up included', async () => {
    proxy.plan({ at: 2, do: 'stall' });
    const client = await call();
    served.socket.write('0123');
    await until(() => client.text === '01');
    client.socket.write('still there?');
    await until(() => served.text === 'still there?');
    client.socket.destroy();
    await until(() => served.end === 'ended');
    served.socket.end();
    await until(() => proxy.connections === 0);
  });

  it('stalls a sender, which then cannot send without end', async () => {
    proxy.plan({ way: 'up', at: 0, do: 'stall' });
    const client = await call();
    client.socket.write(Buffer.alloc(64 * 1024 * 1024));
    await setTimeout(300);
    assert.ok(client.socket.writableLength > 0);
    assert.equal(served.text, '');
  });

  it('loses both directions in a black hole, and takes whatever is sent', async () => {
    proxy.plan({ at: 2, do: 'blackhole' });
    const client = await call();
    served.socket.write('0123');
    await until(() => client.text === '01');
    client.socket.end(Buffer.alloc(8 * 1024 * 1024));
    await until(() => client.socket.writableFinished);
    await aWhile();
    assert.deepEqual([served.text, served.end, client.end], ['', 'open', 'open']);
    assert.ok(proxy.carried[0]!.closedClientMs !== undefined && proxy.carried[0]!.closedTargetMs === undefined);
  });

  it('half-closes one direction and carries on with the other', async () => {
    proxy.plan({ at: 2, do: 'half-close' });
    const client = await call();
    served.socket.write('0123');
    await until(() => client.end === 'ended');
    client.socket.write('and you?');
    await until(() => served.text === 'and you?');
    assert.equal(served.end, 'open');
  });

  it('takes several faults, and a break in the upward direction', async () => {
    proxy.plan([
      { way: 'up', at: 3, do: 'garble', byte: 65 },
      { way: 'up', at: 6, do: 'half-close' },
      { latencyMs: 50 },
    ]);
    const client = await call();
    served.socket.write('answer');
    client.socket.write('0123456789');
    await until(() => served.end === 'ended' && client.text === 'answer');
    assert.equal(served.text, '012A45');
  });

  it('takes a fault for each connection, the open ones first, and counts from the plan on', async () => {
    const first = await call();
    const firstServed = served;
    firstServed.socket.write('before');
    await until(() => first.text === 'before');
    proxy.plan((connection) => (connection === 1 ? undefined : { at: connection + 1, do: 'cut' }));
    serve = ({ socket }) => void socket.write('after');
    firstServed.socket.write('after');
    await until(() => first.end === 'ended');
    assert.equal(first.text, 'beforea');
    const second = await call();
    const third = await call();
    await until(() => third.end === 'ended' && second.text === 'after');
    assert.equal(third.text, 'aft');
    assert.equal(second.end, 'open');
  });

  it('is whole again after a plan without faults', async () => {
    proxy.plan({ at: 0, do: 'reset' });
    proxy.plan(undefined);
    serve = ({ socket }) => void socket.end('whole');
    const client = await call();
    await until(() => client.end === 'ended');
    assert.equal(client.text, 'whole');
  });

  it('counts what is open, and lets go of all of it', async () => {
    const clients = [await call(), await call()];
    assert.equal(proxy.connections, 2);
    await proxy.close();
    await until(() => clients.every(({ end }) => end !== 'open') && proxy.connections === 0);
    const late = dial();
    await until(() => late.end === 'reset');
    proxy = await openFaultProxy(1);
  });
});
