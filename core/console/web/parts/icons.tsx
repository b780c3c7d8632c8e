const paths = {
  overview: 'M3 11l9-8 9 8M5 10v10h5v-6h4v6h5V10',
  buckets:
    'M4 6c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3zm0 0l2 13c.3 1.2 2.800 2 6 2s5.700-.8 6-2l2-13',
  links:
    'M9 15l6-6M10.500 6.500l1.400-1.400a4.200 4.200 0 016 6l-1.400 1.400M13.500 17.500l-1.400 1.400a4.200 4.200 0 01-6-6l1.400-1.400',
  classes: 'M4 20V12M10 20V4M16 20v-9M22 20H2',
  policies: 'M12 3l8 3v6c0 4.500-3.400 7.800-8 9-4.600-1.200-8-4.500-8-9V6zM9 12l2 2 4-4',
  federation: 'M12 3a9 9 0 100 18 9 9 0 000-18zM3 12h18M12 3c3 3 3 15 0 18M12 3c-3 3-3 15 0 18',
  sharing:
    'M18 8a3 3 0 100-6 3 3 0 000 6zM6 15a3 3 0 100-6 3 3 0 000 6zM18 22a3 3 0 100-6 3 3 0 000 6zM8.600 10.500l6.800-4M8.600 13.500l6.800 4',
  failover: 'M4 9h13l-4-4M20 15H7l4 4',
  keys: 'M14.500 9.500a4.500 4.500 0 11-4.300-5.800M14 9l7 7v4h-4l-1-1v-2h-2v-2h-2l-1.500-1.500',
  events: 'M6 4h12v16H6zM9 9h6M9 13h6M9 17h3',
  check: 'M5 12.500l5 5 9-10',
  alert: 'M12 7v6M12 17v.5',
  folder: 'M3 6h6l2 2h10v11H3z',
  file: 'M6 3h8l4 4v14H6zM14 3v4h4',
  upload: 'M12 16V4M7 9l5-5 5 5M4 20h16',
} as const

/** Decoration: what it stands for is always there as text, too. */
export function Icon({ name, size = 20 }: { readonly name: keyof typeof paths; readonly size?: number }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      stroke-width="1.9"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      <path d={paths[name]} />
    </svg>
  )
}
