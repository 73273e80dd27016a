// Builds the page into src/web/dist under fixed names, which the Rust side embeds; no inline code, so the strict CSP holds.
import { defineConfig } from 'vitest/config';
import solid from 'vite-plugin-solid';

/** The daemon that `npm run dev` talks to. */
const daemon = process.env.KAS_HTTP ?? 'http://127.0.0.1:7440';

export default defineConfig({
  plugins: [solid()],
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
