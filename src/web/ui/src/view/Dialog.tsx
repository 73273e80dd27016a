// A native dialog that is open as long as it exists; Escape answers "no".

import { onMount, type ParentComponent } from 'solid-js';

export const Dialog: ParentComponent<{ label: string; cancel: () => void }> = (props) => {
  let element!: HTMLDialogElement;
  onMount(() => element.showModal());
  return (
    <dialog
      ref={element}
      aria-label={props.label}
      on:cancel={(event) => {
        event.preventDefault();
        props.cancel();
      }}
    >
      {props.children}
    </dialog>
  );
};
