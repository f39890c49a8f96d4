import type { ServerResponse } from 'node:http';
import { answerJson } from '../edge/answer.ts';
import { allowsModel, type Rules } from '../policy/rules.ts';
import type { Provider } from '../providers/provider.ts';
import { pickProviders } from '../relay/pick.ts';

type Asked = { response: ServerResponse; answerHeaders: string[]; products: readonly Rules[] };

/** Lists what this caller may use, and nothing else: https://platform.openai.com/docs/api-reference/models/list */
export function listModels(providers: readonly Provider[]) {
  const listed = new Set(providers.flatMap(({ models }) => models ?? []));
  return ({ response, answerHeaders, products }: Asked): void => {
    const names = new Set<string>();
    for (const product of products) {
      for (const model of listed) if (allowsModel(product, model)) names.add(model);
      // A provider that takes any name lists none; what a product spells out in full can still be named.
      for (const model of product.models) if (!model.includes('*')) names.add(model);
    }
    const data = [...names].toSorted().flatMap((id) => {
      const [provider] = pickProviders(providers, id);
      return provider === undefined ? [] : [{ id, object: 'model', created: 0, owned_by: provider.name }];
    });
    answerJson({ response, answerHeaders }, 200, { object: 'list', data });
  };
}
