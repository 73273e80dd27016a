# A control client's stream as the next line of a plan wants it: perl proxy.pl DIR TMUX ARG…
#
# DIR/plan has a line for each control client to come; one for which there is none is the real one.
#   cut N                 ends after N bytes
#   deaf N                after N bytes the client's input ends
#   edit K HOW FILE RE    at the K-th line that matches RE (0: every one): FILE's bytes before, after or instead of it;
#                         HOW `error` makes an %error of an %end
use strict;
use warnings;

my ($dir, $tmux, @args) = @ARGV;

sub next_plan {
    open(my $in, '<', "$dir/plan") or return undef;
    my ($first, @rest) = <$in>;
    close $in;
    open(my $out, '>', "$dir/plan.new") or die;
    print $out @rest;
    close $out;
    rename "$dir/plan.new", "$dir/plan" or die;
    return $first;
}

my $plan = next_plan();
exec $tmux, @args unless defined $plan;
chomp $plan;
my ($what, $count, $how, $file, $re) = split ' ', $plan, 5;
my $bytes = '';
if ($what eq 'edit') {
    open(my $in, '<:raw', $file) or die;
    local $/;
    $bytes = <$in> // '';
}

pipe(my $tmux_in, my $to_tmux) or die;
pipe(my $from_tmux, my $tmux_out) or die;
my $child = fork // die;
if ($child == 0) {
    open(STDIN, '<&', $tmux_in) or die;
    open(STDOUT, '>&', $tmux_out) or die;
    close $_ for $tmux_in, $to_tmux, $from_tmux, $tmux_out;
    exec $tmux, @args;
}
close $tmux_in;
close $tmux_out;
$SIG{PIPE} = 'IGNORE';

sub write_all {
    my ($to, $data) = @_;
    while (length $data) {
        my $written = syswrite $to, $data;
        return 0 unless defined $written;
        substr($data, 0, $written) = '';
    }
    return 1;
}

my ($total, $seen, $partial) = (0, 0, '');
sub lines_of {
    $partial .= $_[0];
    my $out = '';
    while ($partial =~ s/^([^\n]*\n)//) {
        my $line = $1;
        if ($line =~ /$re/ and (++$seen == $count or $count == 0)) {
            $line = $how eq 'before' ? $bytes . $line
                  : $how eq 'after' ? $line . $bytes
                  : $how eq 'error' ? $line =~ s/^%end/%error/r
                  : $bytes;
        }
        $out .= $line;
    }
    return $out;
}

while (1) {
    my $wanted = '';
    vec($wanted, fileno(STDIN), 1) = 1 if defined fileno(STDIN);
    vec($wanted, fileno($from_tmux), 1) = 1;
    my $ready = $wanted;
    next if select($ready, undef, undef, undef) < 0;
    if (defined fileno(STDIN) and vec($ready, fileno(STDIN), 1)) {
        my $read = sysread STDIN, my $data, 65536;
        if ($read) { write_all($to_tmux, $data) if defined fileno($to_tmux) }
        else { close STDIN; close $to_tmux }
    }
    if (vec($ready, fileno($from_tmux), 1)) {
        my $read = sysread $from_tmux, my $data, 65536;
        last unless $read;
        if ($what eq 'edit') { $data = lines_of($data) }
        elsif ($what eq 'cut' and $total + length $data >= $count) {
            write_all(\*STDOUT, substr $data, 0, $count - $total);
            kill 'KILL', $child;
            exit 1;
        }
        $total += length $data;
        close $to_tmux if $what eq 'deaf' and $total >= $count and defined fileno($to_tmux);
        last unless write_all(\*STDOUT, $data);
    }
}
exit 0;
