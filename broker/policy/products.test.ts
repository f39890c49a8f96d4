import assert from 'node:assert/strict';
import type { ErrorCode } from '@sallyport/protocol/errors.ts';
import { findProduct, findProducts, type Product } from './products.ts';

const all = ['one', 'two', 'three'].map((name): Product => {
  return { name, models: ['*'], rate: { burst: 1, perSecond: 1, perDay: 1 } };
});

type Row = {
  path?: string;
  header?: string;
  mine: string[];
  one: string | ErrorCode;
  /** Where a list is asked for and nothing is named, all of the caller's are meant. */
  list?: string[];
};

const TABLE: Row[] = [
  { path: 'one', mine: ['one', 'two'], one: 'one' },
  { header: 'two', mine: ['one', 'two'], one: 'two' },
  { path: 'one', header: 'one', mine: ['one', 'two'], one: 'one' },
  { mine: ['two'], one: 'two', list: ['two'] },
  { path: 'one', header: 'two', mine: ['one', 'two'], one: 'product_conflict' },
  { path: 'one', header: '', mine: ['one'], one: 'product_conflict' },
  { mine: ['one', 'two'], one: 'product_required', list: ['one', 'two'] },
  { mine: [], one: 'product_required', list: [] },
  { path: 'three', mine: ['one', 'two'], one: 'product_unknown' },
  { header: 'three', mine: ['one', 'two'], one: 'product_unknown' },
  { path: 'four', mine: ['one', 'two'], one: 'product_unknown' },
  { path: 'ONE', mine: ['one'], one: 'product_unknown' },
  { header: '', mine: ['one'], one: 'product_unknown' },
  { header: 'one, one', mine: ['one'], one: 'product_unknown' },
  { path: 'constructor', mine: ['one'], one: 'product_unknown' },
  { path: 'four', mine: ['four'], one: 'product_unknown' },
];

describe('the product a request falls under', () => {
  for (const { path, header, mine, one, list } of TABLE) {
    const isFound = all.some(({ name }) => name === one);
    const named = `path ${path ?? '-'}, header ${header === undefined ? '-' : JSON.stringify(header)}`;
    it(`is ${isFound ? one : `refused as ${one}`} for ${named}, when the caller has ${mine.join() || 'none'}`, () => {
      const asked = {
        params: path === undefined ? {} : { product: path },
        fields: new Map(header === undefined ? [] : [['x-sallyport-product', header]]),
        caller: { products: mine },
      };
      const find = () => findProduct(all)(asked).product.name;
      const findList = () => findProducts(all)(asked).products.map(({ name }) => name);
      if (isFound) assert.equal(find(), one);
      else assert.throws(find, { code: one });
      if (list !== undefined) assert.deepEqual(findList(), list);
      else if (isFound) assert.deepEqual(findList(), [one]);
      else assert.throws(findList, { code: one });
    });
  }

  it('gives one answer for a product that is not there and for one that is not the caller’s', () => {
    const refusal = (product: string) => {
      try {
        findProduct(all)({ params: { product }, fields: new Map(), caller: { products: ['one'] } });
      } catch (error) {
        return (error as Error).message.replace(product, '…');
      }
      return 'accepted';
    };
    assert.match(refusal('three'), /no product/);
    assert.equal(refusal('three'), refusal('four'));
  });
});
