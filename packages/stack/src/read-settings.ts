import { join, resolve } from 'node:path'
import { z } from 'zod'
import { type PortName, portSettings } from './ports.ts'

const root = join(import.meta.dirname, '..', '..', '..')

const portRule = 'must be a whole number from 1 to 65535'
const port = (usual: number) =>
  z.coerce.number(portRule).int(portRule).min(1, portRule).max(65_535, portRule).default(usual)

const Settings = z
  .object({
    STACK: z.enum(['embedded', 'docker']).default('embedded'),
    PENNYWIRE_DATA: z.string().min(1).default('.pennywire'),
    GATEWAY_PORT: port(8080),
    MAIL_HTTP_PORT: port(8025),
    KAFKA_PORT: port(19092),
    REGISTRY_PORT: port(18081),
    POSTGRES_PORT: port(15432),
    REDIS_PORT: port(16379),
  })
  .superRefine((settings, context) => {
    const seen = new Map<number, string>()
    for (const setting of Object.values(portSettings)) {
      const other = seen.get(settings[setting])
      if (other) context.addIssue({ code: 'custom', path: [setting], message: `must differ from ${other}` })
      seen.set(settings[setting], setting)
    }
  })

/** The settings of `npm start` and `npm run reset` from the environment; throws one line per wrong setting, by name. */
export const readSettings = (env: NodeJS.ProcessEnv) => {
  const parsed = Settings.safeParse(env)
  if (!parsed.success)
    throw new Error(
      parsed.error.issues
        .map(({ path, message }) => `${path[0]?.toString()}=${env[String(path[0])] ?? ''}: ${message}`)
        .join('\n'),
    )
  const { STACK, PENNYWIRE_DATA, ...ports } = parsed.data
  return {
    kind: STACK,
    /** Absolute; a relative path is resolved from the repository's root. */
    dataDir: resolve(root, PENNYWIRE_DATA),
    ports: Object.fromEntries(
      Object.entries(portSettings).map(([name, setting]) => [name, ports[setting]]),
    ) as Record<PortName, number>,
  }
}
