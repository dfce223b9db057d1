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
}
