// `npm run consumer:pack`: compiles the consumer kit and packs it as another team installs it, pennywire-consumer-VERSION.tgz
// in the working folder. Node strips no types in node_modules, so a published package contains JavaScript.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

const USAGE = `usage: npm run consumer:pack -- [--into FOLDER]

Compiles packages/consumer and packs it as pennywire-consumer-VERSION.tgz, for \`npm install ./pennywire-consumer-VERSION.tgz\`
or \`npm publish\`.

  --into FOLDER  Where the file is written; without it the working folder.
  --help         Writes this.

Example: npm run consumer:pack -- --into /tmp
Exit codes: 0 packed, 1 not, 2 wrong options.
`

const readOptions = () => {
  try {
    const options = { into: { type: 'string', default: process.cwd() }, help: { type: 'boolean' } } as const
    return parseArgs({ options }).values
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`)
    process.exit(2)
  }
}
const { into, help } = readOptions()
if (help) {
  process.stdout.write(USAGE)
  process.exit(0)
}

const here = join(import.meta.dirname, '..')
const root = join(here, '..', '..')
const target = join(root, 'node_modules', '.cache', `consumer-kit-${process.pid}`)

const run = (command: string, ...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: target, encoding: 'utf8' })
  if (status !== 0) {
    process.stderr.write(`${command} failed:\n${stdout}${stderr}\n`)
    rmSync(target, { recursive: true, force: true })
    process.exit(1)
  }
  return stdout
}

type Manifest = Record<string, unknown> & { dependencies: Record<string, string> }
const {
  private: _,
  devDependencies: __,
  ...manifest
} = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8')) as Manifest
const catalog = readFileSync(join(root, 'pnpm-workspace.yaml'), 'utf8')
const pinned = (name: string) => {
  const version = new RegExp(`^  '?${RegExp.escape(name)}'?: (\\S+)$`, 'm').exec(catalog)?.[1]
  if (version === undefined) throw new Error(`${name} is not in the catalog of pnpm-workspace.yaml`)
  return version
}

mkdirSync(target, { recursive: true })
run(
  join(root, 'node_modules', '.bin', 'tsc'),
  '-p',
  join(here, 'tsconfig.build.json'),
  '--outDir',
  join(target, 'dist'),
)
writeFileSync(
  join(target, 'package.json'),
  JSON.stringify(
    {
      ...manifest,
      engines: { node: '>=22' },
      files: ['dist'],
      exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' } },
      dependencies: Object.fromEntries(Object.keys(manifest.dependencies).map(name => [name, pinned(name)])),
    },
    null,
    2,
  ),
)
copyFileSync(join(here, 'README.md'), join(target, 'README.md'))
copyFileSync(join(root, 'LICENSE'), join(target, 'LICENSE'))
const [{ filename }] = JSON.parse(run('npm', 'pack', '--json', '--pack-destination', into)) as [
  { filename: string },
]
rmSync(target, { recursive: true })
process.stdout.write(`${join(into, filename)}\n`)
