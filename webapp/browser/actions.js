// The buttons that take what the page shows elsewhere: its link, its permalink, its files. They ask the page for its
// values at the moment of the click, so that a value counts that was typed and not yet confirmed.

const STYLE = `
.actions-bar { display: flex; flex-wrap: wrap; gap: 0.5rem; }
.actions-bar button, .copy, .open {
  display: inline-flex; align-items: center; gap: 0.4rem; min-height: 2.5rem; padding: 0.25rem 0.85rem; box-sizing: border-box;
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); background: transparent;
  color: var(--st-text-color); font: inherit; font-family: var(--st-font); font-size: 0.875rem; text-decoration: none; cursor: pointer;
}
.actions-bar button:hover, .copy:hover, .open:hover { border-color: var(--st-primary-color); }
.actions-bar button.first { background: #2b5fc7; border-color: #2b5fc7; color: #fff; }
.actions-bar svg { width: 1.1rem; height: 1.1rem; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.address { width: 100%; box-sizing: border-box; margin-top: 0.4rem; font: inherit; font-size: 0.85rem; }
.share { width: min(34rem, calc(100vw - 2rem)); box-sizing: border-box; padding: 1rem 1.25rem 1.25rem; border: 1px solid var(--st-border-color); border-radius: 14px; background: var(--st-background-color); color: var(--st-text-color); font-family: var(--st-font); }
.share::backdrop { background: #000a; }
.share h2 { margin: 0; font-size: 1.2rem; }
.share p { margin: 0.4rem 0; font-size: 0.875rem; }
.share-head { display: flex; justify-content: space-between; align-items: center; }
.share-close { width: 2.5rem; height: 2.5rem; border: 0; border-radius: 50%; background: none; color: inherit; font-size: 1.4rem; cursor: pointer; }
.share label { display: block; margin: 0.6rem 0 0.2rem; font-size: 0.85rem; }
.line { display: flex; gap: 0.5rem; }
.line input { flex: 1; min-width: 0; padding: 0.4rem 0.6rem; border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius); background: var(--st-secondary-background-color); color: inherit; font: 0.8rem ui-monospace, monospace; }
:is(button, a, input):focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
.share-foot { margin-top: 0.9rem; }
`
const ICONS = {
  share: '<path d="M12 15V4M8 7.5 12 3.5l4 4M5 12v7h14v-7"/>',
  link: '<path d="M10 14a4 4 0 0 0 6 0l3-3a4.2 4.2 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4.2 4.2 0 0 0 6 6l1-1"/>',
  file: '<path d="M12 4v11M8 11.5l4 4 4-4M5 19h14"/>',
}
const FIELDS = [["url", "Permalink"], ["markdown", "Markdown"], ["embed", "Embed code"]]

export class Actions {
  // `options`: base, the URL of the app; page() -> URL of the page with its values, relative to it; query() -> query of
  // the permalink; files, a list of { name, path }, with further `values` for its query if it needs any, or
  // { name, save() } for a file that the browser makes; thing, the word for what the link shows.
  constructor(element, options) {
    this.options = { thing: "picture", ...options }
    const style = Object.assign(document.createElement("style"), { textContent: STYLE })
    this.bar = Object.assign(document.createElement("div"), { className: "actions-bar" })
    this.shareButton = button("Share", "share", () => this.share())
    this.shareButton.className = "first"
    this.linkButton = button("Copy link", "link", () => this.copyLink())
    const files = options.files.map((file) => button(file.name, "file", () => this.save(file)))
    this.bar.append(this.shareButton, this.linkButton, ...files)
    this.address = Object.assign(document.createElement("input"), { className: "address", readOnly: true, hidden: true })
    this.address.setAttribute("aria-label", "Link to this view")
    this.dialog = this.makeDialog()
    element.replaceChildren(style, this.bar, this.address, this.dialog)
  }

  makeDialog() {
    const dialog = document.createElement("dialog")
    dialog.className = "share"
    dialog.setAttribute("aria-label", "Share")
    dialog.innerHTML = `
      <div class="share-head"><h2>Share</h2><button class="share-close" type="button" aria-label="Close">&#215;</button></div>
      <p class="share-state" role="status"></p>
      <div class="share-fields">${FIELDS.map(([name, title]) => `
        <label for="share-${name}">${title}</label>
        <div class="line"><input id="share-${name}" data-name="${name}" readonly><button class="copy" type="button" data-name="${name}">Copy</button></div>`).join("")}
        <p class="share-digest"></p>
        <div class="share-foot"><a class="open" target="_blank" rel="noopener">Open the page</a></div>
      </div>`
    dialog.querySelector(".share-close").onclick = () => dialog.close()
    dialog.onclick = (event) => { if (event.target === dialog) dialog.close() } // on the backdrop
    for (const copy of dialog.querySelectorAll(".copy")) {
      const field = dialog.querySelector(`input[data-name=${copy.dataset.name}]`)
      copy.onclick = async () => {
        field.select()
        copy.textContent = (await copied(field.value)) ? "Copied" : "Press Ctrl+C"
      }
    }
    return dialog
  }

  // Show the permalink of what is on the screen, and copy it.
  async share() {
    const find = (name) => this.dialog.querySelector(name)
    const url = new URL("s/link?" + this.options.query(), this.options.base)
    find(".share-fields").hidden = true
    find(".share-state").textContent = "Asking the server for the digest of these pixels ..."
    for (const copy of this.dialog.querySelectorAll(".copy")) copy.textContent = "Copy"
    if (!this.dialog.open) this.dialog.showModal()
    const asked = permalink(url)
    const copying = copiedLater(asked.then((answer) => answer.url))
    try {
      const answer = await asked
      for (const [name] of FIELDS) find(`input[data-name=${name}]`).value = answer[name]
      find(".share-digest").textContent = `The link holds the digest of ${answer.pixels.toLocaleString("en-US")} pixels, ${answer.px}: whoever opens it is told whether theirs are the same.`
      find(".open").href = answer.url
      find(".share-fields").hidden = false
      const shows = `shows exactly this ${this.options.thing}.`
      find(".share-state").textContent = (await copying) ? `The permalink is copied. It ${shows}` : `The permalink ${shows}`
      find("input[data-name=url]").select()
    } catch (error) {
      find(".share-state").textContent = `There is no permalink yet. ${error.message}`
    }
  }

  async copyLink() {
    const link = new URL(this.options.page(), this.options.base).href
    const text = this.linkButton.querySelector("span")
    this.linkButton.dataset.link = this.address.value = link
    if (await copied(link)) {
      text.textContent = "Link copied"
      clearTimeout(this.relabelling)
      this.relabelling = setTimeout(() => { text.textContent = "Copy link" }, 4000)
    } else { // not permitted, or neither https nor localhost: show and select the link, for copying by hand
      this.address.hidden = false
      this.address.select()
    }
  }

  save({ path, save, values = "" }) {
    if (save) return save()
    const link = document.createElement("a")
    link.href = new URL(`${path}?${this.options.query()}${values}&download=1`, this.options.base).href
    link.download = ""
    link.click()
  }
}

// Return the server's answer; the message of an error says what went wrong and what to do.
async function permalink(url) {
  let response
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(30_000) })
  } catch {
    throw new Error("The server does not answer. Close this and try again in a moment.")
  }
  const answer = await response.json().catch(() => ({})) // a proxy may answer with a page of its own
  if (response.ok && answer.url) return answer
  throw new Error(answer.error || `The server answered with status ${response.status}. Close this and try again in a moment.`)
}

// Copy a text that is not known yet. Safari and Firefox permit copying only while they handle a click, so they are given
// the promise of the text at once.
async function copiedLater(promise) {
  try {
    const blob = promise.then((text) => new Blob([text], { type: "text/plain" }))
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })])
    return true
  } catch {
    return promise.then(copied, () => false)
  }
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return false
  }
}

function button(name, icon, act) {
  const found = document.createElement("button")
  found.type = "button"
  found.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true">${ICONS[icon]}</svg><span></span>`
  found.querySelector("span").textContent = name
  found.onclick = act
  return found
}
