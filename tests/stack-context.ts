/** What integration tests get of the servers that are started once for all of them: `inject('stack')`. */
export type StackContext = {
  superuserUrl: string
  kafkaBrokers: string
  registryUrl: string
  redisUrl: string
  mail: { smtpUrl: string; httpUrl: string }
}

declare module 'vitest' {
  interface ProvidedContext {
    stack: StackContext
  }
}
