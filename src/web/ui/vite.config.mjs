// Builds the page into src/web/dist which the Rust side embeds. No inline code, so the strict CSP holds; names under
// assets/ carry a hash of their content, so browsers may keep them for ever.
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
    license: { fileName: 'licenses.md' },
    rolldownOptions: {
      output: {
        codeSplitting: false,
        entryFileNames: 'assets/app-[hash].js',
        assetFileNames: 'assets/app-[hash][extname]',
      },
    },
  },
  test: { environment: 'node', include: ['test/**/*.test.ts'] },
});
