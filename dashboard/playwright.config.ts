// The page in a browser, against a running affluent at AFFLUENT_URL. One browser at a time: the server is what is busy.
//
//   page   any affluent with records in both sample streams
//   job    one that scripts/browser.sh has set up: these tests sell, visit the shop, and ask the sinks themselves
//   pictures   no tests: what scripts/screenshots.sh takes
import { defineConfig } from '@playwright/test';

const { AFFLUENT_URL, AFFLUENT_CHROMIUM: chromium, AFFLUENT_SHOP_URL, AFFLUENT_PICTURES } = process.env;

const page = { name: 'page', testDir: 'e2e', testIgnore: /\/(job|pictures)\// };
const job = { name: 'job', testDir: 'e2e/job' };
const pictures = { name: 'pictures', testDir: 'e2e/pictures' };

export default defineConfig({
  workers: 1,
  timeout: 60_000,
  expect: { timeout: 15_000 },
  forbidOnly: true,
  reporter: 'list',
  projects: AFFLUENT_PICTURES !== undefined ? [pictures] : AFFLUENT_SHOP_URL !== undefined ? [page, job] : [page],
  use: {
    baseURL: AFFLUENT_URL ?? '',
    locale: 'en-GB',
    colorScheme: 'light',
    viewport: { width: 1440, height: 900 },
    trace: { mode: 'retain-on-failure', screenshots: false },
    screenshot: 'only-on-failure',
    launchOptions: {
      ...(chromium === undefined ? {} : { executablePath: chromium }),
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    },
  },
});
