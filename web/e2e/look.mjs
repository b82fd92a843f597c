// What is looked at on every screen: axe's rules, text that is cut off, and pictures for people to look at.
import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const OUT = process.env.E2E_OUT ?? new URL('../../target/page-e2e/', import.meta.url).pathname;
const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SIZES = [
  ['desktop', 1280, 860],
  ['phone', 360, 740],
];

/** Looks at the page as it is: both appearances, both sizes. */
export async function look(page, name) {
  await mkdir(OUT, { recursive: true });
  const faults = [];
  for (const [size, width, height] of SIZES) {
    await page.setViewportSize({ width, height });
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      const found = [...(await axe(page)), ...(await cutOff(page))];
      faults.push(...found.map((fault) => `${name} ${size} ${colorScheme}: ${fault}`));
      await page.screenshot({ path: join(OUT, `${name}-${size}-${colorScheme}.png`), fullPage: true });
    }
  }
  await page.setViewportSize({ width: 1280, height: 860 });
  assert.deepEqual(faults, []);
}

/** Evaluated from outside the page's own policy, which lets no such script in. */
async function axe(page) {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
    return violations.map(
      ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(' ')}`,
    );
  });
}

/** Text that does not fit where it stands, and a page wider than its window. */
export async function cutOff(page) {
  return page.evaluate(() => {
    const faults = [];
    if (document.documentElement.scrollWidth > window.innerWidth) {
      faults.push(`the page is ${document.documentElement.scrollWidth} wide`);
    }
    for (const element of document.querySelectorAll('body *')) {
      const own = [...element.childNodes].some(
        (node) => node.nodeType === 3 && node.textContent.trim() !== '',
      );
      if (!own || element.closest('.visually-hidden, option, textarea, svg') !== null) continue;
      const box = element.getBoundingClientRect();
      if (box.width === 0) continue;
      const inside = element.closest('.scroll, .terms') !== null;
      const style = getComputedStyle(element);
      const shortened = style.textOverflow === 'ellipsis';
      const over = style.display !== 'inline' && element.scrollWidth > element.clientWidth + 1;
      if (
        (over && !shortened) ||
        (!inside && (box.right > window.innerWidth + 1 || box.left < -1) && box.top >= 0)
      ) {
        faults.push(`cut off: ${element.className} "${element.textContent.trim().slice(0, 60)}"`);
      }
    }
    return faults;
  });
}
