import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import type { Dispatcher } from 'undici';
import { ScriptedDispatcher, type Script } from './scripted-dispatcher.ts';

const CHUNKS = ['a', 'b', 'c'].map((text) => Buffer.from(text));

function perform(script: Partial<Script>, react: Dispatcher.DispatchHandler = {}) {
  const told: string[] = [];
  const controller = Promise.withResolvers<Dispatcher.DispatchController>();
  const dispatcher = new ScriptedDispatcher(() => ({ status: 200, headers: {}, chunks: CHUNKS, ...script }));
  dispatcher.dispatch(
    { origin: 'http://echo.invalid', path: '/', method: 'POST', body: Buffer.alloc(0) },
    {
      onRequestStart(one, context) {
        told.push('start');
        react.onRequestStart?.(one, context);
        controller.resolve(one);
      },
      onResponseStart(one, status, headers) {
        told.push(String(status));
        react.onResponseStart?.(one, status, headers);
      },
      onResponseData(one, chunk) {
        told.push(chunk.toString());
        react.onResponseData?.(one, chunk);
      },
      onResponseEnd: () => void told.push('end'),
      onResponseError: (_, error) => void told.push(error.message),
    },
  );
  return { told, controller: controller.promise };
}

async function settled() {
  for (let turn = 0; turn < 5; turn++) await setImmediate();
}

describe('a scripted provider', () => {
  it('answers, but not before the call that asked has returned', async () => {
    const { told } = perform({});
    assert.deepEqual(told, []);
    await settled();
    assert.deepEqual(told, ['start', '200', 'a', 'b', 'c', 'end']);
  });

  it('gives nothing while it is paused, and goes on where it was', async () => {
    const { told, controller } = perform({}, { onResponseData: (one) => one.pause() });
    const one = await controller;
    for (const heard of [['a'], ['a', 'b'], ['a', 'b', 'c'], ['a', 'b', 'c', 'end']]) {
      await settled();
      assert.deepEqual(told.slice(2), heard);
      assert.equal(one.paused, heard.length < 4);
      one.resume();
      if (heard.length === 4) one.resume();
    }
    await settled();
    assert.deepEqual(told.slice(2), ['a', 'b', 'c', 'end']);
  });

  it('gives nothing twice when it is paused and resumed at once', async () => {
    const { told } = perform(
      {},
      {
        onResponseData(one) {
          one.pause();
          one.resume();
        },
      },
    );
    await settled();
    assert.deepEqual(told.slice(2), ['a', 'b', 'c', 'end']);
  });

  const stop = (one: Dispatcher.DispatchController) => one.abort(new Error('stop'));
  for (const [when, react, heard] of [
    ['before it began', { onRequestStart: stop }, ['start', 'stop']],
    ['at its headers', { onResponseStart: stop }, ['start', '200', 'stop']],
    ['in the middle', { onResponseData: stop }, ['start', '200', 'a', 'stop']],
  ] as const) {
    it(`falls silent when it is aborted ${when}, and says so once`, async () => {
      const { told, controller } = perform({}, react);
      await settled();
      assert.deepEqual(told, heard);
      const one = await controller;
      one.abort(new Error('again'));
      one.resume();
      await settled();
      assert.deepEqual(told, heard);
      assert.ok(one.aborted);
      assert.equal(one.reason?.message, 'stop');
    });
  }

  it('does not begin after its delay when it was aborted within it', async () => {
    const { told, controller } = perform({ delayMs: 20 });
    (await controller).abort(new Error('stop'));
    await new Promise((resolve) => setTimeout(resolve, 40));
    assert.deepEqual(told, ['start', 'stop']);
  });

  it('breaks off and stalls where the script says', async () => {
    const cut = perform({ cutAfter: 1 });
    const stalled = perform({ stallAfter: 2 });
    await settled();
    assert.deepEqual(cut.told.slice(2), ['a', 'the script cuts the connection here']);
    assert.deepEqual(stalled.told.slice(2), ['a', 'b']);
  });
});
