// What the browser remembers from one visit to the next. Without storage, every visit is the first one.

export function recall(name) {
  try {
    return localStorage.getItem(`digitforge.${name}`)
  } catch {
    return null
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`digitforge.${name}`, value)
  } catch { /* the next visit is a first one again */ }
}
