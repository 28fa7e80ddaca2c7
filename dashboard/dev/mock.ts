// A server for `npm run dev` when there is none: plausible answers in the form of docs/api.md.
//
// For developing only: it is no part of the bundle, and no test asks it.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Plugin } from 'vite';
import { answer } from './shop.ts';

export function mock(): Plugin {
  return {
    name: 'mock',
    apply: 'serve',
    configureServer(server) {
      server.middlewares.use('/api/v1', serve);
    },
    configurePreviewServer(server) {
      server.middlewares.use('/api/v1', serve);
    },
  };
}

function serve(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', 'http://mock');
  if (url.pathname === '/live') {
    live(response);
    return;
  }
  const { status, body } = answer(url.pathname, url.searchParams);
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function live(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  const tell = (stream: string): void => {
    response.write(`event: progress\ndata: ${JSON.stringify({ stream, at: new Date().toISOString() })}\n\n`);
  };
  tell('sales');
  tell('clicks');
  const timer = setInterval(() => tell(Math.random() < 0.5 ? 'sales' : 'clicks'), 800);
  response.on('close', () => clearInterval(timer));
}
