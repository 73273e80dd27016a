// Lets xterm.js style itself under a policy without 'unsafe-inline'. It writes <style> elements and style attributes,
// which `style-src 'self'` refuses; the same rules set through the CSSOM are allowed, so both are sent that way.

/** Stands in for a <style> element: its text becomes a sheet of the document, and leaves with the element. */
function sheetElement(create: (name: string) => HTMLElement): HTMLElement {
  const element = create('kas-style');
  const sheet = new CSSStyleSheet();
  element.hidden = true;
  Object.defineProperty(element, 'textContent', {
    set: (css: string) => {
      sheet.replaceSync(css);
      if (!document.adoptedStyleSheets.includes(sheet)) document.adoptedStyleSheets.push(sheet);
    },
  });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((it) => it !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

/** Once, before the first terminal. xterm's own `documentOverride` does not reach every place that makes a style. */
export function styleThroughCssom(): void {
  const create = document.createElement.bind(document);
  document.createElement = ((name: string, options?: ElementCreationOptions) =>
    name === 'style' ? sheetElement(create) : create(name, options)) as typeof document.createElement;

  const { setAttribute } = Element.prototype;
  HTMLSpanElement.prototype.setAttribute = function (name: string, value: string): void {
    if (name === 'style') this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
}
