/** An element with text: what came from the network never becomes markup. */
export function element(name, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/** The page's own element of this id. */
export const byId = (id) => document.getElementById(id);

/** Sets text only where it differs, so that nothing is announced or painted without a change. */
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
