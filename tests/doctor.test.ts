// `npm run doctor` on the running system: all is well, and each fault that is planted is found, with what to do.
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { changeTopic } from '@pennywire/kafka/check-topics.ts'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { metricValues } from '@pennywire/stack/doctor-checks.ts'
import postgres from 'postgres'
import { afterAll, expect, inject, test } from 'vitest'

const { kafka, kafkaEnv } = inject('stack')
const { databaseUrls, opsUrls, env } = inject('system')
const root = join(import.meta.dirname, '..')

type Finding = { check: string; state: string; found: string; todo?: string }
const runDoctor = (options: string[], over: Record<string, string> = {}) =>
  new Promise<{ code: number; stdout: string; stderr: string }>(resolve => {
    const settings = {
      ...{ PATH: process.env.PATH!, HOME: process.env.HOME! },
      ...kafkaEnv.operator,
      OWNER_DATABASE_URL: databaseUrls.owner,
      LEDGER_DATABASE_URL: databaseUrls.ledger,
      REGISTRY_URL: env.ledger.REGISTRY_URL!,
      REDIS_URL: env.gateway.REDIS_URL!,
      OPS_URLS: Object.values(opsUrls).join(','),
      PENNYWIRE_DATA: inject('system').dataDir,
      ...over,
    }
    const script = join(root, 'packages/stack/src/doctor.ts')
    execFile(
      process.execPath,
      [script, ...options],
      { env: settings, timeout: 60_000 },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
    )
  })
const faults = async (over: Record<string, string> = {}) => {
  const { code, stdout } = await runDoctor(['--json'], over)
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: Finding[] }
  expect(ok).toBe(code === 0)
  // Dead letters are what other files' tests leave.
  const wrong = findings.filter(({ check, state }) => state !== 'ok' && check !== 'dead letters')
  for (const { todo } of wrong) expect(todo).toMatch(/.{8}/)
  return { code, wrong: wrong.map(({ check, state, found }) => `${state} ${check}: ${found}`), findings }
}

const superuser = postgres(databaseUrls.superuser, { max: 1 })
afterAll(() => superuser.end())
const PATIENT = 120_000

test(
  'on a system that is well nothing fails, and everything was checked',
  async () => {
    const { code, wrong, findings } = await faults()
    expect({ code, wrong }).toEqual({ code: 0, wrong: [] })
    const checks = findings.map(({ check }) => check)
    expect(checks).toEqual(
      expect.arrayContaining(['topics', 'rights', 'migrations', 'dead letters', 'Redis', 'keys']),
    )
    expect(checks.filter(check => check.startsWith('service at')).length).toBe(4)
    const { code: plain, stdout } = await runDoctor([])
    expect(plain).toBe(0)
    expect(stdout).toMatch(/^ok {9}topics: 7 topics/m)
    expect(stdout.trimEnd()).toMatch(/\d+ findings: 0 failures, \d+ warnings, 0 unchecked$/)
  },
  PATIENT,
)

test(
  'each fault is found and named: a topic, a right, a migration, keys, a service that is away',
  async () => {
    const logger = createLogger('test', { level: 'silent', instance: 'test' })
    const admin = createKafkaClient({ connection: kafka, clientId: 'doctor-test', logger }).admin()
    await admin.connect()
    const folder = mkdtempSync(join(tmpdir(), 'pennywire-doctor-'))
    mkdirSync(join(folder, 'keys'), { mode: 0o700 })
    writeFileSync(join(folder, 'keys', 'jwt.json'), '{}', { mode: 0o644 })
    const [{ file }] = await superuser<[{ file: string }]>`
    delete from audit.migrations where file = (select max(file) from audit.migrations) returning file`
    try {
      await changeTopic(admin, 'identity.events', { 'retention.ms': '604800000' })
      await superuser`grant update on audit.records to audit`
      const { code, wrong } = await faults({
        PENNYWIRE_DATA: folder,
        OPS_URLS: 'http://127.0.0.1:1',
        COMMAND_MAC_FILE: join(folder, 'gone.json'),
      })
      expect(code).toBe(1)
      expect(wrong).toEqual([
        `failure keys: ${join(folder, 'gone.json')} is missing`,
        `failure keys: ${join(folder, 'keys', 'jwt.json')} has the mode 644`,
        `failure migrations: audit lacks ${file}`,
        'failure rights: audit may UPDATE on audit.records',
        'failure topics: identity.events: retention.ms is 604800000, must be -1',
        expect.stringMatching(/^unchecked service at http:\/\/127.0.0.1:1: /),
      ])
    } finally {
      await superuser`revoke update on audit.records from audit`
      await superuser`insert into audit.migrations (file) values (${file}) on conflict do nothing`
      await changeTopic(admin, 'identity.events', { 'retention.ms': '-1' })
      await admin.disconnect()
      rmSync(folder, { recursive: true })
    }
  },
  PATIENT,
)

test(
  'what is away is not checked, the rest is, and the exit code is 3',
  async () => {
    const { code, wrong } = await faults({
      REGISTRY_URL: 'http://127.0.0.1:1',
      REDIS_URL: 'redis://127.0.0.1:1',
    })
    expect(code).toBe(3)
    expect(wrong.map(line => line.split(':')[0])).toEqual([
      'unchecked registry',
      'unchecked schemas',
      'unchecked Redis',
    ])
    const { code: usage, stderr } = await runDoctor([], { OWNER_DATABASE_URL: 'not a url' })
    expect(usage).toBe(2)
    expect(stderr).toContain('OWNER_DATABASE_URL')
  },
  PATIENT,
)

test('metrics are read with and without labels', () => {
  const text =
    'pennywire_a{topic="x",partition="1"} 2\npennywire_a{topic="y"} NaN\npennywire_ab 7\npennywire_c 1e3\n'
  expect(metricValues(text, 'a')).toEqual([2, Number.NaN])
  expect(metricValues(text, 'c')).toEqual([1_000])
})
