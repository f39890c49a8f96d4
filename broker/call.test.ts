import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { inOrder, walk, type Arrival, type Call, type InOrder, type Stage } from './call.ts';

type WithBread = { bread: string };
type WithToast = { toast: string };

const bakes = (): WithBread => ({ bread: 'white' });
const toasts = ({ bread }: WithBread): WithToast => ({ toast: `${bread}, brown` });
const toastsLater = async ({ bread }: WithBread): Promise<WithToast> => {
  await setTimeout(1);
  return { toast: `${bread}, brown` };
};
const serves = ({ bread, toast }: WithBread & WithToast): void => void (bread + toast);
const answers = ({ response }: Pick<Arrival, 'response'>): void => void response;
const needsPath = ({ path }: Pick<Call, 'path'>): void => void path;

function route<const Stages extends readonly Stage<never>[]>(stages: InOrder<Stages>): Stages {
  return stages;
}

function arrival(): Arrival & Record<string, unknown> {
  return { request: {}, response: {}, arrivedMs: 0, answerHeaders: [], params: {} } as unknown as Arrival &
    Record<string, unknown>;
}

describe('a walk through the stages', () => {
  it('lays down the piece of each before the next sees the call, and waits for those that take time', async () => {
    const seen: string[] = [];
    const call = arrival();
    await walk(
      [
        () => {
          seen.push('a');
          return { a: 1 };
        },
        async ({ a }: { a: number }) => {
          await setTimeout(5);
          seen.push(`b after a=${a}`);
          return { b: 2 };
        },
        ({ a, b }: { a: number; b: number }) => {
          seen.push(`c after a=${a}, b=${b}`);
        },
        ({ b }: { b: number }) => ({ b: b + 1 }),
      ],
      call,
    );
    assert.deepEqual(seen, ['a', 'b after a=1', 'c after a=1, b=2']);
    assert.deepEqual([call['a'], call['b']], [1, 3]);
  });

  for (const [how, refuse] of [
    ['throws', () => void assert.fail('no')],
    ['rejects', () => Promise.reject(new Error('no'))],
  ] as const) {
    it(`ends where a stage ${how}, and keeps what was laid down`, async () => {
      const call = arrival();
      let isReached = false;
      await assert.rejects(walk([() => ({ a: 1 }), refuse, () => void (isReached = true)], call), { message: 'no' });
      assert.equal(isReached, false);
      assert.equal(call['a'], 1);
    });
  }

  it('walks no stage at all', async () => {
    const call = arrival();
    await walk([], call);
    assert.deepEqual(Object.keys(call).length, 5);
  });
});

describe('the order of stages', () => {
  // What holds here is held by the compiler: each line marked below is an error, or the mark itself is one.
  it('compiles where each stage stands behind what it needs', () => {
    assert.equal(route([bakes, toasts, serves]).length, 3);
    assert.equal(route([bakes, toastsLater, serves]).length, 3);
    assert.equal(route([answers, needsPath]).length, 2);
    assert.equal(route([...([bakes, toasts] as const), serves]).length, 3);
    assert.equal(inOrder([bakes, toasts, serves]).length, 3);
    assert.equal(route([]).length, 0);
  });

  it('does not compile where a stage stands before what it needs', () => {
    // @ts-expect-error nobody bakes
    route([toasts]);
    // @ts-expect-error the bread comes too late
    route([toasts, bakes]);
    // @ts-expect-error the toast comes too late
    route([bakes, serves, toasts]);
    // @ts-expect-error nobody toasts
    route([bakes, serves]);
    // @ts-expect-error the bread is there, but it is needed earlier as well
    route([toastsLater, bakes, serves]);
    // @ts-expect-error on arrival the target has not been read yet
    inOrder([needsPath]);
    assert.equal(route([answers]).length, 1);
  });
});
