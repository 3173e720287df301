// The consumers of examples/balances as another team runs them. What they need is installed once, below
// node_modules/.cache, in a folder named by the file that pins it.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findOnPath } from '@pennywire/stack/embedded/find-on-path.ts'

const root = join(import.meta.dirname, '..', '..')
const examples = join(root, 'examples', 'balances')
const RUN_WITHIN_MS = 90_000

export const LANGUAGES = ['TypeScript', 'Python', 'Java'] as const
export type Language = (typeof LANGUAGES)[number]

/** How a language's consumer is started, or the reason why it cannot run on this machine. */
export type Example = { file: string; args: string[] } | { missing: string }

/** A folder that `fill` fills once for this content of the pinning file. A draft is renamed: what exists is complete. */
const installOnce = (name: string, pins: string, fill: (folder: string) => void): string => {
  const hash = createHash('sha256').update(readFileSync(pins)).digest('hex').slice(0, 12)
  const folder = join(root, 'node_modules', '.cache', `consumer-${name}-${hash}`)
  const complete = join(folder, 'complete')
  if (existsSync(complete)) return folder
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  fill(folder)
  writeFileSync(`${complete}.draft`, '')
  renameSync(`${complete}.draft`, complete)
  return folder
}

const run = (file: string, ...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8', timeout: 300_000 })
  if (status !== 0) throw new Error(`${file} ${args.join(' ')} failed:\n${stdout}${stderr}`)
}

const prepare: Record<Language, () => Example> = {
  TypeScript: () => ({ file: process.execPath, args: [join(examples, 'typescript', 'balances.ts')] }),
  Python: () => {
    const python = findOnPath('python3')
    if (!python) return { missing: 'there is no python3' }
    const isNewEnough = 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))'
    if (spawnSync(python, ['-c', isNewEnough]).status !== 0)
      return { missing: 'python3 is older than 3.10, or has no venv' }
    const pins = join(examples, 'python', 'requirements.txt')
    const folder = installOnce('python', pins, folder => {
      run(python, '-m', 'venv', folder)
      run(join(folder, 'bin', 'pip'), 'install', '--quiet', '--requirement', pins)
    })
    return { file: join(folder, 'bin', 'python'), args: [join(examples, 'python', 'balances.py')] }
  },
  Java: () => {
    if (!findOnPath('mvn')) return { missing: 'there is no mvn (Maven)' }
    // The stack that the tests run on has needed a Java already; a single source file needs its compiler too.
    const java = process.env.JAVA_HOME ? join(process.env.JAVA_HOME, 'bin', 'java') : 'java'
    const { stdout } = spawnSync(java, ['--list-modules'], { encoding: 'utf8' })
    if (!stdout?.includes('jdk.compiler'))
      return { missing: 'there is no JDK (only a Java runtime, or none)' }
    const pins = join(examples, 'java', 'pom.xml')
    const folder = installOnce('java', pins, folder =>
      run('mvn', '-B', '-ntp', '-f', pins, 'dependency:copy-dependencies', `-DoutputDirectory=${folder}`),
    )
    const flags = ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1']
    return { file: java, args: [...flags, '-cp', join(folder, '*'), join(examples, 'java', 'Balances.java')] }
  },
}

/** Installs what a language's consumer needs, unless it was before. Throws if that fails. */
export const prepareExample = (language: Language): Example => prepare[language]()

export type Ended = { code: number | null; lines: string[]; errors: string[] }
export type Running = { lines: () => string[]; stop: () => void; ended: Promise<Ended> }

/** Starts a consumer with only these settings of ours. One that goes on for too long is killed. */
export const startExample = (
  { file, args }: Exclude<Example, { missing: string }>,
  env: Record<string, string>,
  ...options: string[]
): Running => {
  const { PATH = '', HOME = '' } = process.env
  const child = spawn(file, [...args, ...options], {
    env: { PATH, HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: RUN_WITHIN_MS,
    killSignal: 'SIGKILL',
  })
  let [output, errors] = ['', '']
  child.stdout.setEncoding('utf8').on('data', text => {
    output += text
  })
  child.stderr.setEncoding('utf8').on('data', text => {
    errors += text
  })
  const linesOf = (text: string) => text.split('\n').filter(line => line !== '')
  return {
    lines: () => linesOf(output),
    stop: () => child.kill('SIGTERM'),
    ended: new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', code => resolve({ code, lines: linesOf(output), errors: linesOf(errors) }))
    }),
  }
}
