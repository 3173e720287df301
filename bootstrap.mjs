// Runs a script of this repository on the pinned Node with everything installed: the first thing behind
// `npm start`, `npm test` and the other commands. Plain JavaScript, because it must run on any Node >= 20.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const NODE = '26.10.0'
const PNPM = '12.21.0'
const root = dirname(fileURLToPath(import.meta.url))
const [script, ...args] = process.argv.slice(2)

const fail = message => {
  console.error(message)
  process.exit(1)
}

if (Number(process.versions.node.split('.')[0]) < 20) {
  fail(
    `Pennywire needs Node 20 or newer to start; this is ${process.version}. Install a current Node and try again.`,
  )
}
if (!script) fail('usage: node bootstrap.mjs SCRIPT [ARGUMENT ...]')

// What decides the installed tree. While it is unchanged nothing is installed and no registry is asked.
const installedStamp = join(root, 'node_modules', '.pennywire-installed')
const inputs = () => {
  const hash = createHash('sha256').update(`${process.platform} ${process.arch} ${NODE} ${PNPM}`)
  for (const file of ['pnpm-lock.yaml', 'pnpm-workspace.yaml', 'package.json'])
    hash.update(readFileSync(join(root, file)))
  return hash.digest('hex')
}
const stamp = inputs()
if (!existsSync(installedStamp) || readFileSync(installedStamp, 'utf8') !== stamp) {
  console.log(`Installing dependencies (Node ${NODE}, pnpm ${PNPM}; a minute the first time) ...`)
  const install = spawnSync(
    'npx',
    [
      '--yes',
      '-p',
      `node@${NODE}`,
      '-p',
      `pnpm@${PNPM}`,
      '-c',
      'pnpm install --frozen-lockfile --reporter=append-only',
    ],
    { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, CI: 'true' } },
  )
  if (install.status !== 0) fail('The installation failed; the lines above say why. Nothing was started.')
  writeFileSync(installedStamp, stamp)
}

const node = join(root, 'node_modules', '.bin', 'node')
if (!existsSync(node))
  fail(`No Node ${NODE} for ${process.platform} ${process.arch}: Pennywire runs on Linux and macOS.`)
const child = spawn(node, [join(root, script), ...args], { cwd: root, stdio: 'inherit' })
// The terminal sends Ctrl-C to the whole group, so the child has it already; other signals are passed on.
process.on('SIGINT', () => {})
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
// A SIGTERM to npm ends npm and its shell, which pass nothing on: an orphan behind npm stops as if it had been told.
const parent = process.ppid
const orphanWatch = setInterval(() => {
  if (!process.env.npm_lifecycle_event || process.ppid === parent) return
  clearInterval(orphanWatch)
  child.kill('SIGTERM')
}, 500)
child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]))
