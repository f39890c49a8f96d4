import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkAnswer } from './check.ts';
import { findProgram } from './machine.ts';
import { type Mock, startMock } from './mock.ts';
import { type Ask, plainSource } from './request-source.ts';

const SLOW: Ask = { stream: true, events: 50, paceMs: 1000 };

for (const [name, compiler] of [
  ['on Node', undefined],
  // It waits for its sockets with epoll, which Linux alone has.
  ['in C', process.platform === 'linux' ? findProgram('cc') : undefined],
] as const) {
  describe(`the mock upstream ${name}`, () => {
    let folder: string;
    let mock: Mock;
    before(async function () {
      if (name === 'in C' && compiler === undefined) return this.skip();
      folder = mkdtempSync(path.join(os.tmpdir(), 'sallyport-mock-'));
      mock = await startMock({ cores: undefined, remarks: [], compiler, nginx: undefined }, folder);
    });
    after(() => {
      mock?.stop();
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    });

    for (const ask of [
      { stream: false },
      { stream: false, bodyBytes: 1_000_000 },
      { stream: true, events: 5 },
      { stream: true, events: 5, paceMs: 1 },
    ] as const satisfies Ask[]) {
      it(`answers ${JSON.stringify(ask)}`, async () => {
        await checkAnswer(mock.port, plainSource(ask, mock.port, {}), ask);
      });
    }

    it('knows how many streams it is sending', async () => {
      assert.equal(await mock.openStreams(), 0);
      const leave = new AbortController();
      const request = plainSource(SLOW, mock.port, {}).next();
      const body = request.subarray(request.indexOf('\r\n\r\n') + 4);
      const url = `http://127.0.0.1:${mock.port}/v1/chat/completions`;
      const ask = (): Promise<Response> => fetch(url, { method: 'POST', body, signal: leave.signal });
      await Promise.all([ask(), ask()]);
      assert.equal(await mock.openStreams(), 2);
      leave.abort();
      while ((await mock.openStreams()) > 0) await sleep(10);
    });
  });
}
