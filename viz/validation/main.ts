/** The entry of a validation's page: unpacks the result and mounts the views. */
import { h } from '../app/dom.ts';
import { readPacked } from '../app/packed.ts';
import { startPage } from '../app/start-page.ts';
import { createTip } from '../app/tip.ts';
import { mountView } from '../app/view.ts';
import { validationHeader } from './header.ts';
import type { ValidationPage, ValidationResult } from './page.ts';
import { operations } from './views/operations.ts';
import { ranking } from './views/ranking.ts';
import { residuals } from './views/residuals.ts';
import { scatter } from './views/scatter.ts';

startPage(async (root) => {
  const result = JSON.parse(new TextDecoder().decode(await readPacked())) as ValidationResult;
  const page: ValidationPage = { result, tip: createTip(document.body) };
  root.replaceChildren(validationHeader(page));
  const upper = h('div', { class: 'pair' });
  const lower = h('div', { class: 'pair' });
  root.append(upper, lower);
  mountView(scatter, upper, page);
  mountView(residuals, upper, page);
  mountView(ranking, lower, page);
  mountView(operations, lower, page);
});
