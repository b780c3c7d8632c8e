import type { ComponentType } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import type { AdminSession } from '../../../sdk/admin/index.ts'
import { isLoggedOut, sentence } from './errors.ts'
import iconUrl from './icon.svg'
import { admin, belongTo } from './node.ts'
import { Buckets } from './pages/buckets.tsx'
import { Classes } from './pages/classes.tsx'
import { Events } from './pages/events.tsx'
import { Failover } from './pages/failover.tsx'
import { Federation } from './pages/federation.tsx'
import { Keys } from './pages/keys.tsx'
import { Links } from './pages/links.tsx'
import { Login } from './pages/login.tsx'
import { Objects } from './pages/objects.tsx'
import { Overview } from './pages/overview.tsx'
import { OwnBuckets } from './pages/own-buckets.tsx'
import { Policies } from './pages/policies.tsx'
import { Sharing } from './pages/sharing.tsx'
import { Icon } from './parts/icons.tsx'
import { whenLoggedOut } from './poll.ts'
import { setTheme, type Theme, theme } from './theme.ts'
import { uploadQueue } from './uploads.ts'

export interface PageProps {
  readonly session: AdminSession
  /** Behind the name of the page, each part decoded. */
  readonly path: readonly string[]
}

interface PageEntry {
  readonly title: string
  readonly icon: Parameters<typeof Icon>[0]['name']
  readonly page: ComponentType<PageProps>
}

type PageSet = Readonly<Record<string, PageEntry>>

const pages: PageSet = {
  overview: { title: 'Overview', icon: 'overview', page: Overview },
  buckets: {
    title: 'Buckets',
    icon: 'buckets',
    page: (props) => (props.path.length > 0 ? <Objects {...props} /> : <Buckets {...props} />),
  },
  links: { title: 'Links', icon: 'links', page: Links },
  classes: { title: 'Classes of service', icon: 'classes', page: Classes },
  policies: { title: 'Policies', icon: 'policies', page: Policies },
  federation: { title: 'Federation', icon: 'federation', page: Federation },
  sharing: { title: 'Sharing', icon: 'sharing', page: Sharing },
  failover: { title: 'Failover', icon: 'failover', page: Failover },
  keys: { title: 'Access keys', icon: 'keys', page: Keys },
  events: { title: 'Events', icon: 'events', page: Events },
}

/** For keys that may not administer: what S3 lets them do. The node refuses them the rest, whatever a page asks. */
const ownPages: PageSet = {
  buckets: {
    title: 'Buckets',
    icon: 'buckets',
    page: (props) => (props.path.length > 0 ? <Objects {...props} /> : <OwnBuckets {...props} />),
  },
}

/** `#/buckets/photos/2024` as its parts; slashes inside of a part are escaped. */
function useRoute(): readonly string[] {
  const [hash, setHash] = useState(location.hash)
  useEffect(() => {
    const onChange = (): void => setHash(location.hash)
    // It may have changed since the page was drawn.
    onChange()
    addEventListener('hashchange', onChange)
    return () => removeEventListener('hashchange', onChange)
  }, [])
  const parts = hash.replace(/^#\/?/, '').split('/')
  try {
    return parts.map(decodeURIComponent)
  } catch {
    return ['overview']
  }
}

export function App() {
  const [session, setSession] = useState<AdminSession | null | undefined>(undefined)
  const [trouble, setTrouble] = useState<string | undefined>(undefined)
  const isInside = useRef(false)
  isInside.current = session != null
  const show = (shown: AdminSession | null): void => {
    // Before anything asks in its name.
    belongTo(shown?.accessKeyId ?? '')
    setSession(shown)
  }
  useEffect(() => {
    whenLoggedOut(() => {
      if (isInside.current) setTrouble('The session has ended. Log in again to go on.')
      show(null)
    })
    admin.session().then(show, (error: unknown) => {
      if (!isLoggedOut(error)) setTrouble(sentence(error))
      show(null)
    })
  }, [])
  useEffect(() => {
    if (session) uploadQueue.belongTo(session.accessKeyId)
  }, [session])
  const begin = (begun: AdminSession | null): void => {
    setTrouble(undefined)
    show(begun)
  }
  if (session === undefined) return null
  if (session === null) return <Login trouble={trouble} onLogin={begin} />
  return <Frame session={session} onLogout={() => begin(null)} />
}

function Frame({ session, onLogout }: { readonly session: AdminSession; readonly onLogout: () => void }) {
  const [name = '', ...path] = useRoute()
  const offered = session.isAdmin ? pages : ownPages
  const current = Object.hasOwn(offered, name) ? name : session.isAdmin ? 'overview' : 'buckets'
  const Page = offered[current]?.page ?? OwnBuckets
  const main = useRef<HTMLElement>(null)
  const place = `${current}/${path.join('/')}`
  const shown = useRef(place)
  useEffect(() => {
    // A new page is read from its beginning; the first one is where the browser puts it.
    if (shown.current !== place) main.current?.focus()
    shown.current = place
    // On a narrow screen the names of pages are one row that scrolls.
    document.querySelector('.side nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' })
  }, [place])
  const logOut = (): void => {
    uploadQueue
      .end()
      .then(() => admin.logout())
      .then(onLogout, onLogout)
  }
  return (
    <div class="frame">
      <header class="side">
        <button type="button" class="skip" onClick={() => main.current?.focus()}>
          Skip to the page
        </button>
        <div class="brand">
          <img src={iconUrl} alt="" />
          Pando
        </div>
        <nav aria-label="Pages">
          {Object.entries(offered).map(([id, { title, icon }]) => (
            <a key={id} href={`#/${id}`} aria-current={id === current ? 'page' : undefined}>
              <Icon name={icon} />
              {title}
            </a>
          ))}
        </nav>
        <div class="foot">
          <ThemeChoice />
          <div class="who">
            <div title={session.accessKeyId}>{session.accessKeyId}</div>
            <div class="muted">
              {session.isAdmin ? session.node : `account ${session.account}`}, {session.region}
            </div>
          </div>
          <button type="button" onClick={logOut}>
            Log out
          </button>
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        {session.isExposed && (
          <p class="notice bad" role="alert">
            This connection is not encrypted and comes from another machine: others on the way can read it and
            take over the session. Set <code>tls.certFile</code> and <code>tls.keyFile</code>, or come through
            an SSH tunnel.
          </p>
        )}
        <div class="fade" key={place}>
          <Page session={session} path={path} />
        </div>
      </main>
    </div>
  )
}

const themes: readonly (readonly [Theme, string])[] = [
  ['system', 'Auto'],
  ['light', 'Light'],
  ['dark', 'Dark'],
]

function ThemeChoice() {
  const [chosen, setChosen] = useState(theme)
  return (
    <fieldset class="segments" aria-label="Colours">
      {themes.map(([value, title]) => (
        <button
          key={value}
          type="button"
          aria-pressed={chosen === value}
          onClick={() => {
            setTheme(value)
            setChosen(value)
          }}
        >
          {title}
        </button>
      ))}
    </fieldset>
  )
}
