// The page itself is webapp/browser/interpolate.js, which the browser keeps for good.

const pages = new WeakMap()

export default function ({ data, parentElement, setStateValue }) {
  if (!pages.has(parentElement)) pages.set(parentElement, open(data, parentElement))
  pages.get(parentElement).then((page) => page.update(data, (report) => setStateValue("view", report)))
  return () => {
    pages.get(parentElement)?.then((page) => page.close())
    pages.delete(parentElement)
  }
}

async function open(data, parentElement) {
  const base = window.__streamlit?.BACKEND_BASE_URL ?? new URL("./", window.location.href).href
  const { Interpolate } = await import(new URL(data.scripts + "interpolate.js", base).href)
  return new Interpolate(parentElement, base)
}
