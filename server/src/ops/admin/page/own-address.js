// The form asks which server to connect to: this one, unless the page remembers another. No other field is required.
const fill = () => {
  const field = document.querySelector("form input[required]");
  if (!field) return false;
  if (field.value === "") {
    field.value = location.origin;
    field.dispatchEvent(new Event("input"));
  }
  return true;
};

if (!fill()) {
  const observer = new MutationObserver(() => {
    if (fill()) observer.disconnect();
  });
  observer.observe(document.body, { childList: true, subtree: true });
}
