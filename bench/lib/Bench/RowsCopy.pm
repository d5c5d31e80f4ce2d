# Bench::RowsCopy
#		The first copy of one large table, against psql piping a binary COPY, and the server's own.
package Bench::RowsCopy;

use strict;
use warnings;

use Bench::Rows;
use Bench::Util qw(one median say_progress);
use PgTide::Test qw(wait_until);
use Time::HiRes qw(sleep time);

# Until a query of eu's says true; asked rarely enough not to disturb.
sub wait_for
{
	my ($pair, $way) = @_;
	my $limit = time + 600;
	my $sql = $way->copied_sql;
	until (one($pair->{eu}, $sql, $way->db) eq 't')
	{
		die 'the copy does not end' if time > $limit;
		sleep 0.05;
	}
	return;
}

# Without stamps and triggers: the shortest way there is.
sub pipe
{
	my ($pair) = @_;
	my ($us, $eu) = map { $pair->conninfo($_, 'native') } qw(us eu);
	my $start = time;
	system('sh', '-c', "psql -Xq '$us' -c 'COPY item TO STDOUT (FORMAT binary)' | psql -Xq '$eu' -c 'COPY item FROM STDIN (FORMAT binary)'") == 0
	  or die 'the pipe failed';
	return time - $start;
}

sub way
{
	my ($pair, $way) = @_;
	my $start = time;
	$way->copy;
	wait_for($pair, $way);
	my $seconds = time - $start;
	$way->peaks;
	$pair->compare($way->db, 'item');
	$way->close;
	return $seconds;
}

sub fill
{
	my ($pair, $db, $rows) = @_;
	my $times = $rows / $pair->{pool};
	one($pair->{us}, <<~"END", $db);
		TRUNCATE item;
		INSERT INTO item SELECT g * $pair->{pool} + id, id % 1000, body, now() FROM pool, generate_series(0, $times - 1) g;
		END
	return;
}

sub measure
{
	my ($pair, $quick) = @_;
	my $rows = $pair->{pool} * ($quick ? 1 : 2);
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
			push @{ $seconds{$name} }, $code->($pair);
			say_progress(sprintf '  %s: %.0f rows/s', $name, $rows / $seconds{$name}[-1]);
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
