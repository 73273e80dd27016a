// A button with a menu under it: for what is seldom wanted and should not be hit by accident.

import Ellipsis from 'lucide-solid/icons/ellipsis';
import type { ParentComponent } from 'solid-js';

export const Menu: ParentComponent<{ id: string; label: string }> = (props) => {
  let button!: HTMLButtonElement;
  let menu!: HTMLDivElement;
  const place = (event: Event): void => {
    if ((event as ToggleEvent).newState !== 'open') return;
    const { right, bottom } = button.getBoundingClientRect();
    menu.style.top = `${bottom + 4}px`;
    menu.style.right = `${document.documentElement.clientWidth - right}px`;
  };
  return (
    <>
      <button type="button" class="more" ref={button} popovertarget={props.id} aria-label={props.label} title={props.label}>
        <Ellipsis size={15} />
      </button>
      <div class="menu" id={props.id} popover ref={menu} role="group" aria-label={props.label} on:beforetoggle={place} onClick={() => menu.hidePopover()}>
        {props.children}
      </div>
    </>
  );
};
