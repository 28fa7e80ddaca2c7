// What the tests of a whole job share: processes of their own, sales of their own, and what the sinks say.
//
// Owns: starting and ending what a test starts. Does not own: the job itself, nor where its services are. Both are
// scripts/browser.sh's, which tells affluent, and these tests, by affluent's own variables (AFFLUENT__…).
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { Page } from '@playwright/test';
import { expect, test as base } from '../page.ts';

export { expect };

export function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: scripts/browser.sh runs these tests`);
  return value;
}

/** Above what scripts/browser.sh has set. */
type Settings = Readonly<Record<string, string>>;

/** A process of affluent that listens. */
export class Affluent {
  private constructor(
    private readonly process: ChildProcess,
    private readonly ended: Promise<unknown[]>,
  ) {}

  /** Answers once `url` does. */
  static async start(command: string, settings: Settings, url: string, log: string): Promise<Affluent> {
    const output = openSync(log, 'a');
    const child = spawn(setting('AFFLUENT_BIN'), [command], { env: { ...process.env, ...settings }, stdio: ['ignore', output, output] });
    const started = new Affluent(child, once(child, 'exit'));
    try {
      await expect(async () => {
        expect(child.exitCode, `affluent ${command} has ended; its log is ${log}`).toBeNull();
        expect((await fetch(url)).status).toBe(200);
      }).toPass({ timeout: 60_000, intervals: [100] });
    } catch (error) {
      await started.stop();
      throw error;
    }
    return started;
  }

  /** SIGTERM; the exit code. */
  async stop(): Promise<number | null> {
    this.process.kill('SIGTERM');
    await this.ended;
    return this.process.exitCode;
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port is free');
  return address.port;
}

export interface Sale {
  readonly product: string;
  readonly category: string;
  readonly region: string;
  readonly quantity: number;
  readonly unit_price: string;
  readonly amount: string;
}

export const SALE: Sale = {
  product: 'Couteau de poche en olivier',
  category: 'Cuisine',
  region: 'Corse',
  quantity: 3,
  unit_price: '32.90',
  amount: '98.70',
};

interface Fixtures {
  /** Starts a process that ends with the test. */
  readonly start: (command: string, settings: Settings, url: string) => Promise<Affluent>;
}

interface WorkerFixtures {
  /** Sells now; answers when, on this machine's clock, Kafka had acknowledged it. */
  readonly sell: (sale: Sale) => Promise<number>;
}

export const test = base.extend<Fixtures, WorkerFixtures>({
  start: async ({}, use, info) => {
    const started: Affluent[] = [];
    await use(async (command, settings, url) => {
      const one = await Affluent.start(command, settings, url, info.outputPath(`${command}.log`));
      started.push(one);
      return one;
    });
    for (const one of started) await one.stop();
  },

  // `affluent collect` takes the records of any stream, and answers once Kafka has acknowledged them.
  sell: [
    async ({}, use, { project }) => {
      const listen = `127.0.0.1:${await freePort()}`;
      const settings = { AFFLUENT__COLLECT__STREAM: 'sales', AFFLUENT__COLLECT__LISTEN: listen };
      const till = await Affluent.start('collect', settings, `http://${listen}/healthz`, `${project.outputDir}/till.log`);
      await use(async (sale) => {
        const response = await fetch(`http://${listen}/collect`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ sale_id: randomUUID(), ...sale }),
        });
        const acknowledged = Date.now();
        expect(response.status, await response.text()).toBe(204);
        return acknowledged;
      });
      await till.stop();
    },
    { scope: 'worker' },
  ],
});

export interface Question {
  readonly from: string;
  readonly to: string;
  readonly filters: Readonly<Record<string, readonly (string | null)[]>>;
}

export interface Sums {
  readonly revenue: string;
  readonly sales: number;
  readonly units: number;
}

/** What MongoDB makes of the raw documents. */
export async function sums(questions: readonly Question[]): Promise<Sums[]> {
  return (await askSinks(['sums'], questions)) as Sums[];
}

export interface Click {
  readonly event_id: string;
  readonly page: string;
  readonly referrer: string | null;
  readonly element: string | null;
  readonly device: string;
  readonly region: string | null;
}

/** A session in both sinks, once each has so many events of it, or after a minute. */
export async function sessionInSinks(session: string, count: number): Promise<{ mongo: Click[]; lake: Click[] }> {
  return (await askSinks(['session', session, String(count)])) as { mongo: Click[]; lake: Click[] };
}

async function askSinks(parameters: readonly string[], input?: unknown): Promise<unknown> {
  const program = fileURLToPath(new URL('sinks.py', import.meta.url));
  return JSON.parse(await output(setting('AFFLUENT_TEST_PYTHON'), [program, ...parameters], input));
}

/** Of `affluent` with these arguments; throws with its errors where it does not end with 0. */
export async function affluent(...parameters: readonly string[]): Promise<string> {
  return output(setting('AFFLUENT_BIN'), parameters);
}

async function output(program: string, parameters: readonly string[], input?: unknown): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, parameters, { maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${error.message}\n${stdout}\n${stderr}`));
    });
    child.stdin?.end(input === undefined ? '' : JSON.stringify(input));
  });
}

/** Proves later that a page was never loaded anew. */
export async function mark(page: Page): Promise<() => Promise<void>> {
  await page.evaluate(() => Object.assign(window, { isMarked: true }));
  return async () => expect(await page.evaluate(() => 'isMarked' in window), 'the page was loaded anew').toBe(true);
}

/** Until the page asks nothing more: what it shows after this, it shows because it was told. */
export async function asksNoMore(page: Page): Promise<void> {
  let latest = Date.now();
  const asked = (): void => void (latest = Date.now());
  page.on('request', asked);
  await expect.poll(() => Date.now() - latest, { timeout: 30_000 }).toBeGreaterThan(2_500);
  page.off('request', asked);
}
