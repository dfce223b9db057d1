// Opens a page of webapp/browser/. The browser keeps its script for good; this part comes with every visit.

const pages = new WeakMap()

export default function ({ data, parentElement, setStateValue }) {
  if (!pages.has(parentElement)) pages.set(parentElement, open(data, parentElement))
  pages.get(parentElement).then((page) => page.update(data, (report) => setStateValue("view", report)))
  return () => {
    pages.get(parentElement)?.then((page) => page.close())
    pages.delete(parentElement)
  }
}

async function open({ scripts, page }, parentElement) {
  const base = window.__streamlit?.BACKEND_BASE_URL ?? new URL("./", window.location.href).href
  const { default: Page } = await import(new URL(scripts + page, base).href)
  return new Page(parentElement, base)
}
