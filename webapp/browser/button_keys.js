// The keys of a page that is made of Streamlit's own widgets: each presses a button, or copies the link of the page.

import { Keys, copyLink } from "./keys.js"

export default class ButtonKeys {
  constructor(parent) {
    this.root = parent.querySelector(".df-keys")
    this.listed = []
    this.keys = new Keys(this.root, parent.querySelector(".keys-place"), () => this.keyRows())
  }

  update({ rows }) {
    this.listed = rows
    this.root.dataset.isReady = ""
  }

  // Streamlit gives the element of a button a class that is made of its key.
  keyRows() {
    return this.listed.map(({ key, words, buttons }) => ({ keys: [key], words, act: () => buttons.length ? press(buttons) : copyLink() }))
  }

  close() {
    this.keys.close()
  }
}

// Press the first button that is there and can be pressed; return false if there is none.
function press(buttons) {
  const places = buttons.map((name) => `.st-key-${name.replaceAll(".", "-")} button:not(:disabled)`)
  const button = document.querySelector(places.join(", "))
  button?.click()
  return Boolean(button)
}
