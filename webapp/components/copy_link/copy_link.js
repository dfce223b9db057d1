// The key S of a page copies its link, too: webapp/browser/keys.js then sends this event.
const COPY = "digitforge-copy-link"
const copies = new WeakMap() // element of a button -> what copies its link

export default function (component) {
  const { data, parentElement } = component
  const button = parentElement.querySelector(".copy")
  const text = parentElement.querySelector(".text")
  const address = parentElement.querySelector(".address")
  // The app may be served below a path, so the URL is relative to that of the page.
  const link = new URL(data.path, window.location.href).href
  address.value = link
  button.dataset.link = link
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(link)
      text.textContent = "Link copied"
      setTimeout(() => { text.textContent = "Copy link" }, 4000)
    } catch { // not permitted, or neither https nor localhost: show and select the link, for copying by hand
      address.hidden = false
      address.select()
    }
  }
  window.removeEventListener(COPY, copies.get(parentElement)) // that of earlier data
  copies.set(parentElement, button.onclick)
  window.addEventListener(COPY, button.onclick)
  return () => window.removeEventListener(COPY, copies.get(parentElement))
}
