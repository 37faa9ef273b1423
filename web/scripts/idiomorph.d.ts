declare module "idiomorph" {
  interface Options {
    ignoreActiveValue?: boolean;
    callbacks?: {
      beforeAttributeUpdated?: (name: string, node: Element, kind: string) => boolean;
      beforeNodeMorphed?: (old: Node, fresh: Node) => boolean;
    };
  }
  export const Idiomorph: { morph(old: Element, fresh: Element, options?: Options): void };
}
