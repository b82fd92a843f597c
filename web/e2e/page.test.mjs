// Walks through the page in a real browser, on a small network of the real binary.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cutOff, look } from './look.mjs';
import {
  bootstrap,
  browser,
  end,
  pageLink,
  pageOrigin,
  PATIENCE_MS,
  supernodes,
  until,
  up,
} from './world.mjs';

const HOSTILE = '<img src=x onerror=alert(1)>"\'&{name}';
const MESSAGE = '<script>alert(2)</script> {count} **hello** https://evil.example';
let alice, bob, carol, origin, page;
/** Anything a script of somebody else would have done, and whatever the page's policy refused. */
const trouble = [];

before(async () => {
  const { known } = await supernodes();
  alice = await up(64, bootstrap(known));
  bob = await up(65, bootstrap(known));
  carol = await up(66, bootstrap(known));
  origin = await pageOrigin(alice);
  const context = await (
    await browser()
  ).newContext({ locale: 'en-GB', permissions: ['microphone', 'notifications'] });
  page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on('dialog', (dialog) => {
    trouble.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('pageerror', (error) => trouble.push(`error: ${error.stack}`));
  page.on('console', (message) => {
    if (/Content.Security.Policy/i.test(message.text())) trouble.push(message.text());
  });
  page.on('request', (request) => {
    if (!/^(http|ws):\/\/127\.0\.0\.1:|^(data|blob):/.test(request.url()))
      trouble.push(`request: ${request.url()}`);
  });
});

after(end);

const heading = (name) => page.getByRole('heading', { level: 1, name });
const nav = (name) => page.getByRole('navigation', { name: 'Main parts' }).getByRole('link', { name });

test('without a token the page says what to do', async () => {
  await page.goto(origin);
  await heading('This page has no access yet').waitFor();
  await look(page, '01-signed-out');
  await page.goto(`${origin}/#code=0123456789abcdef0123456789abcdef`);
  await heading('This link is used up').waitFor();
});

test('a link opens it once, and leaves no code behind', async () => {
  await page.goto('about:blank');
  await page.goto(await pageLink(alice, origin));
  await heading('Welcome to Tandem').waitFor();
  assert.equal(page.url().includes('code='), false);
  assert.equal((await page.context().cookies()).length, 0);
});

test('the first run', async () => {
  const next = page.getByRole('button', { name: 'Next' });
  assert.equal(await next.isDisabled(), true);
  await look(page, '02-welcome-begin');
  await page.getByRole('checkbox').check();
  await next.click();
  await heading('This is your address').waitFor();
  await page.getByRole('img', { name: 'QR code of your address' }).waitFor();
  await look(page, '03-welcome-address');
  await next.click();
  await heading('Write your 24 words down').waitFor();
  await next.click();
  await heading('Try your sound').waitFor();
  await look(page, '04-welcome-sound');
  await next.click();
  await heading('Would you like to help others?').waitFor();
  assert.equal(await page.getByRole('radio', { name: 'No, thank you' }).isChecked(), true);
  await look(page, '05-welcome-volunteer');
  await page.getByRole('button', { name: 'Done' }).click();
  await page.getByText('Nobody here yet').waitFor();
  assert.deepEqual((await alice.api('GET', '/api/volunteer')).roles, []);
});

test('a request of a stranger, with what it must not do', async () => {
  await look(page, '06-people-empty');
  await bob.api('POST', '/api/requests', { address: alice.ready.address, message: MESSAGE, name: HOSTILE });
  await nav(/1 request waits/).waitFor();
  await page
    .getByRole('navigation', { name: 'Views' })
    .getByRole('link', { name: /Requests/ })
    .click();
  await page.getByText(MESSAGE, { exact: true }).waitFor();
  await page.getByRole('heading', { name: HOSTILE }).waitFor();
  await look(page, '07-requests');
  await page.getByRole('textbox', { name: 'Name in your contacts' }).fill(HOSTILE);
  await page.getByRole('button', { name: 'Accept', exact: true }).click();
  await page.getByText('No request waits.').waitFor();
  assert.equal((await alice.api('GET', '/api/contacts'))[0].name, HOSTILE);
});

test('a person is added by link, and both sides see the same safety number', async () => {
  await page.getByRole('button', { name: 'Add a person' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('textbox', { name: 'Address or invitation link' }).fill('tandem:nonsense');
  await dialog.getByRole('textbox', { name: 'Name', exact: true }).fill('Carol');
  await dialog.getByRole('button', { name: 'Add', exact: true }).click();
  await dialog.getByText('Code T1112').waitFor();
  await look(page, '08-add-contact');
  await dialog.getByRole('textbox', { name: 'Address or invitation link' }).fill(carol.ready.address);
  await dialog.getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByRole('heading', { name: 'Carol', exact: true }).waitFor();
  const number = page.getByRole('list', { name: 'Safety number' });
  await number.waitFor();
  assert.match((await number.innerText()).replace(/\s+/g, ' '), /^(\d{5} ){11}\d{5}$/);
  await look(page, '09-contact');
});

test('an invitation', async () => {
  await page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name: 'Invite' }).click();
  await page.getByRole('textbox', { name: /What it is for/ }).fill('Neighbours');
  await page.getByRole('button', { name: 'Make a link' }).click();
  await page.getByText('Your invitation is ready.').waitFor();
  await look(page, '10-invite');
});

test('a call that comes in is answered and hung up', async () => {
  await bob.api('POST', '/api/contacts', { address: alice.ready.address, name: 'Alice' });
  await nav('Call').click();
  await heading('Call somebody').waitFor();
  await look(page, '11-dial');
  const over = bob.begin('call', 'Alice');
  const ringing = page.getByRole('region', { name: /is calling/ });
  await ringing.waitFor();
  assert.equal((await ringing.getByRole('heading').innerText()).includes(HOSTILE), true);
  await look(page, '12-incoming');
  await ringing.getByRole('button', { name: 'Answer' }).click();
  await page.getByRole('meter', { name: 'The other side' }).waitFor();
  await page.getByText(/Good sound|Fair:|Poor:|Nothing comes/).waitFor();
  await look(page, '13-in-call');
  await page.getByRole('button', { name: /relay|direct/ }).click();
  await page.getByRole('dialog').getByRole('listitem').first().waitFor();
  await look(page, '14-why');
  await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
  await nav('Connections').click();
  await page
    .getByRole('group', { name: /Picture of the connections/ })
    .getByText('Relay', { exact: true })
    .first()
    .waitFor();
  await look(page, '15-connections-in-call');
  await page.reload();
  await page.getByRole('region', { name: 'The call that goes on' }).waitFor();
  await nav('Call').click();
  await page.getByRole('meter', { name: 'The other side' }).waitFor();
  await page.getByRole('button', { name: 'Hang up' }).click();
  await over;
  await heading(/Call with/).waitFor();
  await look(page, '16-call-over');
});

test('a call is declined', async () => {
  const over = bob.begin('call', 'Alice');
  await page
    .getByRole('region', { name: /is calling/ })
    .getByRole('button', { name: 'Decline' })
    .click();
  await over;
  await nav('People').click();
  await page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name: 'Past calls' }).click();
  await page.getByText('The call was declined.').waitFor();
  await look(page, '17-history');
});

test('each connection says what it is for', async () => {
  await nav('Connections').click();
  await page
    .getByRole('button', { name: /Details Home/ })
    .first()
    .click();
  await page.getByRole('dialog').getByText('Why this one?').waitFor();
  await look(page, '18-connection');
  await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
});

test('volunteering is agreed to, limited and taken back', async () => {
  await nav('Volunteer').click();
  await heading('Help others').waitFor();
  await look(page, '19-volunteer-terms');
  const agree = page.getByRole('button', { name: 'I agree' });
  assert.equal(await agree.isDisabled(), true);
  await page.getByRole('checkbox', { name: /^Relay/ }).check();
  await page.getByRole('checkbox', { name: /I have read/ }).check();
  await agree.click();
  const calls = page.getByRole('spinbutton', { name: 'Relayed calls at once' });
  await calls.fill('7');
  await page.getByRole('button', { name: 'Save' }).click();
  await until('the cap', async () => (await alice.api('GET', '/api/volunteer')).caps.calls === 7);
  await look(page, '20-volunteer');
  await page.getByRole('button', { name: 'Stop helping' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Stop helping' }).click();
  await until('the withdrawal', async () => (await alice.api('GET', '/api/volunteer')).roles.length === 0);
});

test('settings, and German', async () => {
  await nav('Settings').click();
  await page.getByText('this one', { exact: true }).waitFor();
  await look(page, '21-settings');
  await page.getByRole('combobox', { name: 'Language' }).selectOption('de');
  await page.getByRole('heading', { level: 1, name: 'Einstellungen' }).waitFor();
  await look(page, '22-settings-de');
  await page.setViewportSize({ width: 360, height: 740 });
  for (const screen of [
    'people',
    'people/requests',
    'people/invitations',
    'call',
    'connections',
    'volunteer',
    'welcome',
  ]) {
    await page.goto(`${origin}/#/${screen}`);
    await page.locator('main h1').waitFor();
    assert.deepEqual(await cutOff(page), [], screen);
  }
  await page.goto(`${origin}/#/settings`);
  await page.getByRole('combobox', { name: 'Sprache' }).selectOption('en');
});

test('the node goes, and the page says so', async () => {
  await alice.api('POST', '/api/shutdown', { drain_ms: 0 });
  await page.getByText('The connection to your node is lost.', { exact: false }).waitFor();
  await look(page, '23-lost');
});

test('nothing of others ran, and nothing was loaded from elsewhere', () => {
  assert.deepEqual(trouble, []);
});
