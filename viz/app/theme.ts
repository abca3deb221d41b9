/** The page's theme: the system's, or the one chosen by hand. */
import { h } from './dom.ts';

const themes = ['light dark', 'light', 'dark'];

/** Cycles the page through the system's theme, light and dark. */
export const themeButton = (): HTMLElement => {
  const button = h('button', { type: 'button' }, 'Theme: auto');
  let at = 0;
  button.addEventListener('click', () => {
    at = (at + 1) % themes.length;
    document.documentElement.style.colorScheme = themes[at];
    button.textContent = `Theme: ${at === 0 ? 'auto' : themes[at]}`;
  });
  return button;
};
