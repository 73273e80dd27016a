// The one place where text becomes markup under `require-trusted-types-for 'script'`: SolidJS fills <template> elements with
// the constant markup that was compiled from the views. Everything else that writes markup is refused by the browser.

interface Policy {
  createHTML(html: string): unknown;
}

/** The page's part of the Trusted Types API; browsers without it have nothing to ask. */
declare const trustedTypes: { createPolicy(name: string, rules: { createHTML(html: string): string }): Policy } | undefined;

/** The name that the daemon's policy lists. */
const NAME = 'kas-templates';

/** Once, before the first view. A template's content is inert until it is cloned into the document. */
export function trustTemplates(): void {
  if (typeof trustedTypes === 'undefined') return;
  const policy = trustedTypes.createPolicy(NAME, { createHTML: (html) => html });
  const write = Object.getOwnPropertyDescriptor(Element.prototype, 'innerHTML')?.set;
  const create = document.createElement.bind(document);
  document.createElement = ((name: string, options?: ElementCreationOptions) => {
    const element = create(name, options);
    if (name === 'template') {
      Object.defineProperty(element, 'innerHTML', { set: (html: string) => write?.call(element, policy.createHTML(html)) });
    }
    return element;
  }) as typeof document.createElement;
}
