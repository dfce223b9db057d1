export default function ({ data, parentElement }) {
  const place = parentElement.querySelector(".said")
  if (place.textContent !== data.sentence) place.textContent = data.sentence
}
