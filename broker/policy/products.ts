import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import type { Config } from '../config/config.ts';

/** The unit of policy that this request falls under. */
export type Product = Config['products'][number];

/** Left once it is known which product is meant. */
export type WithProduct = { product: Product };

type Asked = {
  params: Readonly<Record<string, string>>;
  fields: ReadonlyMap<string, string>;
  caller: { products: readonly string[] };
};

/** Finds the product: from the path, else from the header, else the only one that the credential has. */
export function findProduct(products: readonly Product[]) {
  const byName = new Map(products.map((product) => [product.name, product]));
  return ({ params, fields, caller }: Asked): WithProduct => {
    const name = namedProduct(params['product'], fields.get(HEADER.product)) ?? onlyProduct(caller.products);
    // One answer for "there is none" and for "not yours": which products exist is nobody else's business.
    const product = caller.products.includes(name) ? byName.get(name) : undefined;
    if (product === undefined) throw new ApiError('product_unknown', { facts: { product: name } });
    return { product };
  };
}

/** The products that `findProduct` could choose from here: the named one, or all of the caller's. */
export function findProducts(products: readonly Product[]) {
  const one = findProduct(products);
  return (asked: Asked): { products: readonly Product[] } => {
    if (namedProduct(asked.params['product'], asked.fields.get(HEADER.product)) !== undefined) {
      return { products: [one(asked).product] };
    }
    return { products: products.filter(({ name }) => asked.caller.products.includes(name)) };
  };
}

function namedProduct(path: string | undefined, header: string | undefined): string | undefined {
  if (path !== undefined && header !== undefined && path !== header) {
    throw new ApiError('product_conflict', { facts: { path, header } });
  }
  return path ?? header;
}

function onlyProduct(products: readonly string[]): string {
  if (products.length === 1) return products[0]!;
  throw new ApiError('product_required', { facts: { products: products.join(', ') } });
}
