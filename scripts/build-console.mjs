// Builds the pages of the console (core/console/web) into dist/console. Run by the set-up whenever they have changed.
import { join } from 'node:path'
import { build } from 'vite'
import { root } from './prepare.mjs'

await build({
  configFile: false,
  root: join(root, 'core/console/web'),
  base: '/',
  logLevel: 'warn',
  publicDir: false,
  build: {
    outDir: join(root, 'dist/console'),
    emptyOutDir: true,
    target: 'es2022',
    // Nothing inline: the content security policy allows files of our own only.
    assetsInlineLimit: 0,
    modulePreload: false,
    reportCompressedSize: false,
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
})
