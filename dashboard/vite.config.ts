// How the page is bundled: into a few files with fixed names, which the Rust side embeds.
//
// The same sources give the same bytes: no hashes in names, no dates, versions pinned by the lockfile.
import { defineConfig } from 'vitest/config';
import { mock } from './dev/mock.ts';

const affluent = process.env.AFFLUENT_URL;

export default defineConfig({
  // Relative: the page also works behind a proxy that puts it below a path.
  base: './',
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  plugins: affluent === undefined ? [mock()] : [],
  server: affluent === undefined ? {} : { proxy: { '/api': { target: affluent, changeOrigin: true } } },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 900,
    rollupOptions: {
      output: {
        entryFileNames: 'assets/app.js',
        chunkFileNames: 'assets/[name].js',
        assetFileNames: 'assets/[name][extname]',
      },
    },
  },
  test: { include: ['src/**/*.test.ts'] },
});
