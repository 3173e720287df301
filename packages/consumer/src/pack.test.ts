// The consumer kit as another team installs it: packed, compiled, with nothing of this repository around it.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..', '..')
const folder = mkdtempSync(join(tmpdir(), 'pennywire-kit-'))
const installed = join(folder, 'node_modules', '@pennywire', 'consumer')

const run = (command: string, ...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8' })
  expect([status, `${stdout}${stderr}`.slice(0, 4_000)]).toEqual([0, expect.any(String)])
  return stdout
}

beforeAll(() => {
  const file = run(process.execPath, join(root, 'packages/consumer/src/pack.ts'), '--into', folder).trim()
  mkdirSync(installed, { recursive: true })
  run('tar', '-xzf', file, '--strip-components=1', '-C', installed)
  // What npm would install of its dependencies and peers, by the versions in use here.
  for (const [name, from] of [
    ['avsc', 'packages/consumer'],
    ['kafkajs', 'packages/consumer'],
    ['postgres', 'packages/consumer'],
    ['@types/node', '.'],
  ] as const) {
    const link = join(folder, 'node_modules', name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(join(root, from, 'node_modules', name), link)
  }
}, 60_000)
afterAll(() => rmSync(folder, { recursive: true }))

test('its manifest names versions that a registry has, and nothing private', () => {
  const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'))
  expect(manifest).toMatchObject({ name: '@pennywire/consumer', license: 'Apache-2.0', type: 'module' })
  expect(manifest.private).toBeUndefined()
  expect(Object.keys(manifest.dependencies)).toEqual(['avsc', 'kafkajs'])
  expect(JSON.stringify(manifest)).not.toMatch(/workspace:|catalog:/)
})

test('plain Node imports it, and it reads an event', () => {
  writeFileSync(
    join(folder, 'use.mjs'),
    `import { createBalances, createDecoder, fromRegistry, startConsumer } from '@pennywire/consumer'
     const balances = createBalances()
     balances.add({ walletId: 'w', currency: 'USD', balanceAfterMinor: 5n, sequence: 1 })
     console.log(typeof startConsumer, typeof createDecoder(fromRegistry('')), balances.all()[0].balance)`,
  )
  expect(run(process.execPath, 'use.mjs').trim()).toBe('function function 5n')
})

test('the example of its README compiles against the types that it brings', () => {
  const [, example] = /```ts\n([\s\S]*?)\n```/.exec(readFileSync(join(installed, 'README.md'), 'utf8'))!
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  writeFileSync(join(folder, 'example.ts'), example!)
  const flags = [
    '--noEmit',
    '--strict',
    '--skipLibCheck',
    '--target',
    'es2024',
    '--module',
    'nodenext',
    '--types',
    'node',
  ]
  run(join(root, 'node_modules', '.bin', 'tsc'), ...flags, 'example.ts')
  writeFileSync(join(folder, 'wrong.ts'), example!.replace('event.value.userId', 'event.value.nobody'))
  const { status, stdout } = spawnSync(join(root, 'node_modules', '.bin', 'tsc'), [...flags, 'wrong.ts'], {
    cwd: folder,
    encoding: 'utf8',
  })
  expect([status === 0, stdout]).toEqual([false, expect.stringContaining('nobody')])
})
