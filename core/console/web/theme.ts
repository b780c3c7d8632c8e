export type Theme = 'system' | 'light' | 'dark'

const key = 'pando-theme'

export function theme(): Theme {
  try {
    const kept = localStorage.getItem(key)
    return kept === 'light' || kept === 'dark' ? kept : 'system'
  } catch {
    // A browser may refuse to keep anything.
    return 'system'
  }
}

export function setTheme(next: Theme): void {
  try {
    if (next === 'system') localStorage.removeItem(key)
    else localStorage.setItem(key, next)
  } catch {
    // Then it lasts as long as the page.
  }
  applyTheme(next)
}

export function applyTheme(chosen: Theme = theme()): void {
  const { dataset } = document.documentElement
  if (chosen === 'system') delete dataset['theme']
  else dataset['theme'] = chosen
}
