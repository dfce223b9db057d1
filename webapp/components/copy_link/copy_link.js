export default function (component) {
  const { data, parentElement } = component
  const button = parentElement.querySelector(".copy")
  const text = parentElement.querySelector(".text")
  const address = parentElement.querySelector(".address")
  // The app may live below a path of its own: everything up to the page's name is kept.
  const link = new URL(data.path, window.location.href).href
  address.value = link
  button.dataset.link = link
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(link)
      text.textContent = "Link copied"
      setTimeout(() => { text.textContent = "Copy link" }, 4000)
    } catch { // no clipboard without https or localhost, nor without permission: show it, ready to be copied
      address.hidden = false
      address.select()
    }
  }
}
