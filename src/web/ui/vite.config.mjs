// Builds the page into src/web/dist under fixed names, which the Rust side embeds; no inline code, so the strict CSP holds.
import { utimesSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import solid from 'vite-plugin-solid';

/** The daemon that `npm run dev` talks to. */
const daemon = process.env.KAS_HTTP ?? 'http://127.0.0.1:7440';

/** The embedding macro reads the folder only when the file it stands in is compiled, so a new build makes that file newer. */
const embedAgain = {
  name: 'embed-again',
  apply: 'build',
  closeBundle() {
    const now = new Date();
    utimesSync(fileURLToPath(new URL('../page.rs', import.meta.url)), now, now);
  },
};

export default defineConfig({
  plugins: [solid(), embedAgain],
  server: {
    host: '127.0.0.1',
    proxy: { '/api': { target: daemon, ws: true, changeOrigin: true, headers: { origin: daemon } } },
  },
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    license: { fileName: 'assets/licenses.md' },
    rolldownOptions: {
      output: {
        codeSplitting: false,
        entryFileNames: 'assets/app.js',
        assetFileNames: 'assets/app[extname]',
      },
    },
  },
  test: { environment: 'node', include: ['test/**/*.test.ts'] },
});
