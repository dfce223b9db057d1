// The keys of a page, which work wherever the focus is, except in what uses a key itself. A button and the key ? open a
// list of them. Who has keys of their own for letters, as with speech input, can turn ours off there (WCAG 2.1.4).

import { recall, remember } from "./memory.js"

export const DIGITS = [..."0123456789"]

const COPY = "digitforge-copy-link" // event that webapp/components/copy_link waits for
const NAMES = { ArrowLeft: "\u2190", ArrowRight: "\u2192", ArrowUp: "\u2191", ArrowDown: "\u2193" }
const MANY = 6 // keys; more are shown as the first one to the last one
const TAKES_ALL = "select, textarea, [contenteditable], [role=combobox], [role=listbox], [role=menu], [role=textbox]"
const TAKES_ARROWS = "[role=slider], [role=tablist], [role=radiogroup]"
const WITHOUT_TEXT = ["button", "checkbox", "color", "radio", "range", "submit"] // types of input
const WITHOUT_ARROWS = ["button", "checkbox", "color", "submit"]

export class Keys {
  // Put the button into `place`, an element of class keys-place (webapp/components/keys.css). `root` holds all dialogs of the page. `rows()` returns
  // the keys of the moment, a list of { keys, words, act(key) }: names as in KeyboardEvent.key, letters small; what they
  // do; and a function that does it. It returns false if there was nothing to do: then the browser uses the key.
  constructor(root, place, rows) {
    this.root = root
    this.rows = () => [...rows(), { keys: ["?"], words: "Show these keys", act: () => this.open() }]
    const button = Object.assign(document.createElement("button"), { type: "button", className: "keys-button" })
    button.innerHTML = '<kbd aria-hidden="true">?</kbd>Keys'
    button.setAttribute("aria-keyshortcuts", "?")
    button.onclick = () => this.open()
    this.dialog = this.makeDialog()
    place.replaceChildren(button, this.dialog)
    this.onKey = (event) => this.press(event)
    window.addEventListener("keydown", this.onKey)
  }

  close() {
    window.removeEventListener("keydown", this.onKey)
  }

  makeDialog() {
    const dialog = Object.assign(document.createElement("dialog"), { className: "keys-dialog" })
    dialog.setAttribute("aria-label", "Keys")
    dialog.innerHTML = `
      <div class="keys-head"><h2>Keys</h2><button class="keys-close" type="button" aria-label="Close">&#215;</button></div>
      <dl class="keys-list"></dl>
      <label><input type="checkbox"> Use letters, digits and ? as keys</label>`
    dialog.querySelector(".keys-close").onclick = () => dialog.close()
    dialog.onclick = (event) => { if (event.target === dialog) dialog.close() } // on the backdrop
    dialog.querySelector("input").onchange = (event) => remember("keys", event.target.checked ? "on" : "off")
    return dialog
  }

  open() {
    const rows = [...this.rows(), { keys: ["Esc"], words: "Close this list" }]
    this.dialog.querySelector("dl").replaceChildren(...rows.flatMap(({ keys, words }) => {
      const term = document.createElement("dt")
      const shown = keys.length > MANY ? [keys[0], "to", keys.at(-1)] : keys
      term.append(...shown.flatMap((key) => [key === "to" ? key : keycap(key), " "]))
      return [term, Object.assign(document.createElement("dd"), { textContent: words })]
    }))
    this.dialog.querySelector("input").checked = areOn()
    this.dialog.showModal()
  }

  press(event) {
    const { key: name = "" } = event // without one, a browser has filled in a form
    const isCharacter = name.length === 1
    const key = isCharacter ? name.toLowerCase() : name
    if (!("isReady" in this.root.dataset)) return
    if (event.defaultPrevented || event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return
    if (isCharacter ? event.repeat || !areOn() : event.shiftKey) return
    const path = event.composedPath()
    if (isTaken(path[0], isCharacter) || path.some((each) => each.matches?.("dialog, [role=dialog]"))) return
    if (this.root.querySelector("dialog[open]")) return
    const row = this.rows().find(({ keys }) => keys.includes(key))
    if (row && (row.act(key) !== false || event.repeat)) event.preventDefault()
  }
}

// Copy the link of a page whose button for it is a component of its own.
export function copyLink() {
  window.dispatchEvent(new Event(COPY))
}

function areOn() { return recall("keys") !== "off" }

// Return whether an element uses a key itself: a character, or one such as an arrow.
function isTaken(target, isCharacter) {
  if (!target.closest) return false // the document
  if (target.matches("input")) return !(isCharacter ? WITHOUT_TEXT : WITHOUT_ARROWS).includes(target.type)
  return Boolean(target.closest(isCharacter ? TAKES_ALL : `${TAKES_ALL}, ${TAKES_ARROWS}`))
}

function keycap(key) {
  return Object.assign(document.createElement("kbd"), { textContent: NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key) })
}
