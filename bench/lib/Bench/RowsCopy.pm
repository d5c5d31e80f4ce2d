# Bench::RowsCopy
#		The first copy of one large table, against psql piping a binary COPY, and the server's own.
package Bench::RowsCopy;

use strict;
use warnings;

use Bench::Rows;
use Bench::Util qw(one median say_progress);
use Time::HiRes qw(time);

# Runs code: {seconds, us, eu, relay}, the latter processor seconds.
sub timed
{
	my ($pair, $way, $code) = @_;
	my $cpu = sub { return ($pair->cpu, relay => $way ? $way->cpu : 0) };
	my %before = $cpu->();
	my $start = time;
	$code->();
	my %took = (seconds => time - $start, $cpu->());
	$took{$_} -= $before{$_} for keys %before;
	return \%took;
}

# Without stamps and triggers: the shortest way there is.
sub pipe
{
	my ($pair) = @_;
	my ($us, $eu) = map { $pair->conninfo($_, 'native') } qw(us eu);
	my $pipe = "psql -Xq '$us' -c 'COPY item TO STDOUT (FORMAT binary)' | psql -Xq '$eu' -c 'COPY item FROM STDIN (FORMAT binary)'";
	return timed($pair, undef, sub { system('sh', '-c', $pipe) == 0 or die 'the pipe failed' });
}

sub way
{
	my ($pair, $way) = @_;
	$way->ready;
	my $took = timed($pair, $way, sub { $way->copy; $pair->await_true($way->db, $way->copied_sql, 600, 0.02) });
	$way->peaks;
	$pair->compare($way->db, 'item');
	$way->close;
	return $took;
}

sub fill
{
	my ($pair, $db, $rows) = @_;
	my $times = $rows / $pair->{pool};
	one($pair->{us}, <<~"END", $db);
		TRUNCATE item;
		INSERT INTO item SELECT g * $pair->{pool} + id, id % 1000, body, now() FROM pool, generate_series(0, $times - 1) g ORDER BY 1;
		END
	return;
}

sub measure
{
	my ($pair, $quick) = @_;
	my $rows = $pair->{pool} * ($quick ? 1 : 4);
	my @ways = grep { $_->name ne 'nats' } Bench::Rows::ways($pair);
	$_->setup(['item']) for @ways;
	fill($pair, $_->db, $rows) for @ways;
	my %seconds;
	for my $round (1 .. ($quick ? 1 : 5))
	{
		say_progress("copy: round $round");
		for my $run ([ pipe => 'native', \&pipe ], map { my $way = $_; [ $way->name, $way->db, sub { way($_[0], $way) } ] } @ways)
		{
			my ($name, $db, $code) = @$run;
			one($pair->{eu}, 'TRUNCATE item', $db);
			$pair->settle($db);
			my $took = $code->($pair);
			push @{ $seconds{$name} }, $took->{seconds};
			say_progress(sprintf '  %s: %.0f rows/s; processor time of each: us %.2f, eu %.2f, relay %.2f microseconds',
				$name, $rows / $took->{seconds}, map { $took->{$_} / $rows * 1e6 } qw(us eu relay));
		}
	}
	$_->teardown for @ways;
	my %ratio = map { my $name = $_; my @pipe = @{ $seconds{pipe} }; $name => median(map { (shift @pipe) / $_ } @{ $seconds{$name} }) }
	  grep { $_ ne 'pipe' } keys %seconds;
	return {
		rows => $rows, seconds => \%seconds, per_second => { map { $_ => $rows / median(@{ $seconds{$_} }) } keys %seconds },
		share_of_pipe => \%ratio, relay_peak_kib => { map { my $way = $_; map { $way->name . "-$_" => $way->peaks->{$_} } keys %{ $way->peaks } } @ways } };
}

1;
