# A `tmux` that writes down what it is told, and passes it on: perl record.pl DIR TMUX ARG…
#   DIR/argv     the arguments, each with a NUL after it, a newline after the last
#   DIR/stdin    what control clients are told
use strict;
use warnings;

my ($dir, $tmux, @args) = @ARGV;
open(my $argv, '>>', "$dir/argv") or die;
syswrite $argv, join('', map { "$_\0" } @args) . "\n";
exec $tmux, @args unless grep { $_ eq '-C' } @args;

pipe(my $tmux_in, my $to_tmux) or die;
my $child = fork // die;
if ($child == 0) {
    open(STDIN, '<&', $tmux_in) or die;
    close $_ for $tmux_in, $to_tmux;
    exec $tmux, @args;
}
close $tmux_in;
$SIG{PIPE} = 'IGNORE';
$SIG{CHLD} = sub { waitpid $child, 0; exit($? >> 8) };
open(my $log, '>>', "$dir/stdin") or die;
while (1) {
    my $count = sysread STDIN, my $data, 65536;
    next if !defined $count && $!{EINTR};
    last unless $count;
    syswrite $log, $data;
    my $at = 0;
    $at += syswrite($to_tmux, $data, length($data) - $at, $at) // last while $at < length $data;
}
close $to_tmux;
sleep 1 while 1;
