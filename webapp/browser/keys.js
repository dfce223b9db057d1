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
const STYLE = `
.keys-place .keys-button { display: inline-flex; align-items: center; gap: 0.4rem; min-height: 2rem; padding: 0 0.4rem; border: 0; border-radius: var(--st-button-radius); background: none; color: inherit; font: inherit; font-size: 0.8rem; white-space: nowrap; cursor: pointer; }
.keys-place .keys-button:hover { background: var(--st-secondary-background-color); }
.keys-place :is(button, input):focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
.keys-place :is(.keys-button, .keys-dialog) kbd { display: inline-block; box-sizing: border-box; min-width: 1.6em; padding: 0 0.35em; border: 1px solid var(--st-border-color); border-radius: 5px; background: none; color: inherit; font: inherit; font-size: 0.9em; line-height: 1.5; text-align: center; }
.keys-place .keys-dialog { width: min(27rem, calc(100vw - 2rem)); box-sizing: border-box; padding: 1rem 1.25rem 1.25rem; border: 1px solid var(--st-border-color); border-radius: 14px; background: var(--st-background-color); color: var(--st-text-color); font-family: var(--st-font); }
.keys-place .keys-dialog::backdrop { background: #000a; }
.keys-place .keys-head { display: flex; justify-content: space-between; align-items: center; }
.keys-place .keys-dialog h2 { margin: 0; padding: 0; font-size: 1.2rem; font-weight: 600; }
.keys-place .keys-close { width: 2.5rem; height: 2.5rem; border: 0; border-radius: 50%; background: none; color: inherit; font-size: 1.4rem; cursor: pointer; }
.keys-place .keys-list { display: grid; grid-template-columns: max-content 1fr; gap: 0.5rem 1.1rem; margin: 0.5rem 0 0.9rem; font-size: 0.9rem; }
.keys-place .keys-list dd { margin: 0; }
.keys-place .keys-dialog label { display: flex; align-items: center; gap: 0.5rem; min-height: 2rem; font-size: 0.875rem; }
.keys-place .keys-dialog input { width: 1.1rem; height: 1.1rem; margin: 0; accent-color: var(--st-primary-color); }
@media (hover: none) and (pointer: coarse) { .keys-place .keys-button { display: none; } }
`

export class Keys {
  // Put the button into `place`, an element of class keys-place. `root` holds all dialogs of the page. `rows()` returns
  // the keys of the moment, a list of { keys, words, act(key) }: names as in KeyboardEvent.key, letters small; what they
  // do; and a function that does it. It returns false if there was nothing to do: then the browser uses the key.
  constructor(root, place, rows) {
    this.root = root
    this.rows = () => [...rows(), { keys: ["?"], words: "Show these keys", act: () => this.open() }]
    const style = Object.assign(document.createElement("style"), { textContent: STYLE })
    const button = Object.assign(document.createElement("button"), { type: "button", className: "keys-button" })
    button.innerHTML = '<kbd aria-hidden="true">?</kbd>Keys'
    button.setAttribute("aria-keyshortcuts", "?")
    button.onclick = () => this.open()
    this.dialog = this.makeDialog()
    place.replaceChildren(style, button, this.dialog)
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
