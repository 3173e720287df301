// `npm run audit:dependencies`: asks the registry whether a known weakness is in what is installed. Exits with 1 where
// there is one, and with 3 where the registry gives no advisories: then nothing was checked. Not part of `npm test`: what
// is known changes by the day.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

// Plain JavaScript, which runs on a Node that was not installed yet: the frame of the other commands is TypeScript.
const USAGE = `usage: npm run audit:dependencies

Asks the registry whether a known weakness is in what is installed.

  --help  Writes this, and asks nothing.

Exit codes: 0 none is known, 1 one is, 2 wrong options, 3 the registry gives no advisories.
Example: npm run audit:dependencies
`
try {
  if (parseArgs({ options: { help: { type: 'boolean' } } }).values.help) {
    process.stdout.write(USAGE)
    process.exit(0)
  }
} catch (error) {
  process.stderr.write(`${error.message}\n\n${USAGE}`)
  process.exit(2)
}

const versionOf = name =>
  new RegExp(`const ${name} = '(.*)'`).exec(
    readFileSync(new URL('../bootstrap.mjs', import.meta.url), 'utf8'),
  )[1]
const { stdout, stderr, status } = spawnSync(
  'npx',
  [
    ...['--yes', '-p', `node@${versionOf('NODE')}`, '-p', `pnpm@${versionOf('PNPM')}`],
    ...['-c', 'pnpm audit --prod --audit-level low'],
  ],
  { cwd: new URL('..', import.meta.url), encoding: 'utf8', env: { ...process.env, CI: 'true' } },
)
const said = `${stdout ?? ''}${stderr ?? ''}`.trim()
console.log(said)
if (status !== 0 && /ERR_PNPM_AUDIT|audit endpoint|ERR_PNPM_FETCH|responded with/i.test(said)) {
  console.error('\nThe registry gives no advisories: NOTHING was checked. Ask again where it does.')
  process.exit(3)
}
process.exit(status === 0 ? 0 : 1)
