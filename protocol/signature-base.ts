/** What a signature can cover of a request: the verifier's own view of it, never words taken from the signature. */
export type SignedView = {
  method: string;
  /** Host and, where it is not the scheme's own, port; lower case. */
  authority: string;
  path: string;
  /** `?` and what follows it, or the empty string when there is none. */
  query: string;
  /** Header fields by lower-case name, each present exactly once. */
  fields: ReadonlyMap<string, string>;
};

/**
 * The exact bytes that are signed, after RFC 9421 section 2.5: one line a component, then the parameters.
 * `parameters` is the serialised inner list, as it stands in Signature-Input behind the label.
 *
 * Generic on purpose, so that the examples of the RFC hold it; what Sallyport accepts is narrower and stands in profile.ts.
 * Left out: component parameters (`;sf`, `;key`, `;bs`, `;req`, `;tr`), `@query-param`, and `@target-uri` and `@scheme`,
 * which a service behind a TLS front end cannot see. Undefined means that a covered component is not in this request.
 */
export function signatureBase(components: readonly string[], parameters: string, view: SignedView): string | undefined {
  let base = '';
  for (const component of components) {
    const value = componentValue(component, view);
    if (value === undefined) return undefined;
    base += `"${component}": ${value}\n`;
  }
  return `${base}"@signature-params": ${parameters}`;
}

function componentValue(component: string, view: SignedView): string | undefined {
  switch (component) {
    case '@method':
      return view.method;
    case '@authority':
      return view.authority;
    case '@path':
      return view.path;
    case '@query':
      return view.query === '' ? '?' : view.query;
    case '@request-target':
      return view.path + view.query;
    default:
      return component.startsWith('@') ? undefined : view.fields.get(component)?.trim();
  }
}
