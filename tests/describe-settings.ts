// `npm run docs`, second half: generates docs/settings.md from the schemas of the services' settings. A test compares
// the two.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { topicSettings } from '@pennywire/kafka/check-topics.ts'
import { serviceSettings } from '@pennywire/runtime/config.ts'
import { describeSettings } from '@pennywire/runtime/describe-settings.ts'
import { auditSettings } from '../services/audit/src/config.ts'
import { gatewaySettings } from '../services/gateway/src/config.ts'
import { ledgerSettings } from '../services/ledger/src/config.ts'
import { notifierSettings } from '../services/notifier/src/config.ts'

const root = join(import.meta.dirname, '..')
const SETTINGS_FILE = join(root, 'docs', 'settings.md')

const everywhere = describeSettings({ ...serviceSettings, ...topicSettings })
const isShared = ([name]: string[]) => everywhere.some(([shared]) => shared === name)
const ownOf = (shape: Parameters<typeof describeSettings>[0]) =>
  describeSettings(shape).filter(row => !isShared(row))

/** Every setting once: those of all services, then each service's own. */
export const SETTINGS: Array<[title: string, rows: string[][]]> = [
  ['Every service', everywhere],
  ['Gateway', ownOf(gatewaySettings(false))],
  ['Ledger', ownOf(ledgerSettings)],
  ['Notifier', ownOf(notifierSettings)],
  ['Audit', ownOf(auditSettings)],
]

/** The full text of docs/settings.md, before its tables are aligned. */
export const settingsText = (): string =>
  `${[
    '# Settings',
    '`npm run docs` makes this page from the schemas that the services read their settings by.',
    'A service reads its settings from the environment, once, at its start. A wrong one ends the start and is named with its\n' +
      'rule. Each may stand in a file instead, which `NAME_FILE` names: so do secrets. What `npm start` takes is in the\n' +
      '[README](../README.md#settings); it sets the others for its services. A rate limit is `requests/seconds`:\n' +
      '[rate-limits](rate-limits.md) tells whom each counts. The audit service decodes nothing, so it asks no registry.',
    ...SETTINGS.flatMap(([title, rows]) => [
      `## ${title}`,
      [['Setting', 'Default', 'Takes', ''], ['---', '---', '---', '---'], ...rows]
        .map(cells => `| ${cells.join(' | ')} |`)
        .join('\n'),
    ]),
  ].join('\n\n')}\n`

if (import.meta.main) {
  writeFileSync(SETTINGS_FILE, settingsText())
  const { status } = spawnSync(join(root, 'node_modules/.bin/biome'), ['format', '--write', SETTINGS_FILE], {
    stdio: 'inherit',
  })
  process.exitCode = status ?? 1
}
